-- What would keep a table from being distributed by tenant_id. One row a finding; none means that
-- each table can be handed to create_distributed_table(…, 'tenant_id').
-- $1: name of the schema. It needs no privilege beyond reading the catalogs.
with
stored as (
  select c.oid, c.relkind, c.relpersistence, pg_catalog.format('%I.%I', n.nspname, c.relname) as shown,
         (select a.attnum from pg_catalog.pg_attribute a
           where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped) as tenant,
         (select pg_catalog.format_type(a.atttypid, null) from pg_catalog.pg_attribute a
           where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped) as type
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where n.nspname = $1 and c.relkind in ('r', 'p') and not c.relispartition
)
select 'table' as kind, shown as name, 'has no column tenant_id' as finding
from stored where tenant is null
union all
select 'table', shown, 'has a tenant_id of type ' || type || ' instead of text, so that it is not colocated'
from stored where type <> 'text'
union all
select 'table', shown, 'is unlogged' from stored where relpersistence = 'u'
union all
select 'table', shown, 'inherits from another'
from stored t
where exists (select from pg_catalog.pg_inherits h where h.inhrelid = t.oid)
union all
select 'table', t.shown, 'has a primary or unique key without tenant_id: ' || i.indexrelid::regclass::text
from stored t join pg_catalog.pg_index i on i.indrelid = t.oid
where i.indisunique and not coalesce(t.tenant = any (i.indkey::int2[]), false)
union all
select 'table', t.shown, 'has an exclusion constraint without tenant_id by equality: ' || k.conname
from stored t join pg_catalog.pg_constraint k on k.conrelid = t.oid and k.contype = 'x'
where not coalesce(t.tenant = any (k.conkey), false)
union all
select 'table', t.shown, 'has a foreign key that does not tie tenant_id to tenant_id: ' || k.conname
from stored t
join pg_catalog.pg_constraint k on k.conrelid = t.oid and k.contype = 'f'
left join stored o on o.oid = k.confrelid
where not exists (
  select from pg_catalog.generate_subscripts(k.conkey, 1) as i
  where k.conkey[i] = t.tenant and k.confkey[i] = o.tenant)
union all
select 'table', t.shown, 'has a foreign key that would set tenant_id to null or its default: ' || k.conname
from stored t
join pg_catalog.pg_constraint k on k.conrelid = t.oid and k.contype = 'f'
where (k.confdeltype in ('n', 'd')
       and (k.confdelsetcols is null or t.tenant = any (k.confdelsetcols)) and t.tenant = any (k.conkey))
   or (k.confupdtype in ('n', 'd') and t.tenant = any (k.conkey))
union all
select 'table', t.shown, 'numbers its rows by a sequence of the coordinator: ' || a.attname
from stored t
join pg_catalog.pg_attribute a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
left join pg_catalog.pg_attrdef d on d.adrelid = t.oid and d.adnum = a.attnum
where a.attidentity <> ''
   or pg_catalog.pg_get_expr(d.adbin, d.adrelid) like '%nextval(%'
union all
select 'table', t.shown, 'has a trigger: ' || g.tgname
from stored t join pg_catalog.pg_trigger g on g.tgrelid = t.oid and not g.tgisinternal
union all
select 'table', t.shown, 'has a rule: ' || r.rulename
from stored t join pg_catalog.pg_rewrite r on r.ev_class = t.oid
order by 1, 2, 3
