-- What would let one tenant meet another's rows. One row a finding; none means all is well.
-- $1: the role that the SDK runs as. It needs no privilege beyond reading the catalogs.
with
runtime as (
  select oid, rolname from pg_catalog.pg_roles where rolname = $1
),
relation as (
  select c.oid, c.relname, c.relkind, c.relowner, c.relrowsecurity, c.relforcerowsecurity,
         c.reloptions, pg_catalog.format('%I.%I', n.nspname, c.relname) as shown,
         (select a.attnum from pg_catalog.pg_attribute a
           where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped) as tenant
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where n.nspname = 'motadata'
),
stored as (
  select * from relation where relkind in ('r', 'p')
),
policy as (
  select p.polrelid, p.polname, p.polpermissive, p.polcmd,
         pg_catalog.pg_get_expr(p.polqual, p.polrelid) as reads,
         pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) as writes
  from pg_catalog.pg_policy p
),
expected (condition) as (
  values ('(tenant_id = ( SELECT current_setting(''motadata.tenant_id''::text, true) AS current_setting))')
)
select 'role' as kind, $1::text as name, 'does not exist' as finding
where not exists (select from runtime)
union all
select 'role', r.rolname, 'is a superuser, or can become one: ' || s.rolname
from runtime r join pg_catalog.pg_roles s
  on s.rolsuper and pg_catalog.pg_has_role(r.oid, s.oid, 'member')
where s.oid = r.oid or not (select rolsuper from pg_catalog.pg_roles where oid = r.oid)
union all
select 'role', r.rolname, 'bypasses row-level security, or can become a role that does: ' || s.rolname
from runtime r join pg_catalog.pg_roles s
  on s.rolbypassrls and not s.rolsuper and pg_catalog.pg_has_role(r.oid, s.oid, 'member')
where not (select rolsuper from pg_catalog.pg_roles where oid = r.oid)
union all
select 'role', r.rolname, 'owns the table, or belongs to its owner: ' || t.shown
from runtime r join relation t
  on t.relkind in ('r', 'p', 'v', 'm', 'f') and pg_catalog.pg_has_role(r.oid, t.relowner, 'member')
where not (select rolsuper from pg_catalog.pg_roles where oid = r.oid)
union all
select 'role', r.rolname, 'may truncate, for which no row-level security exists: ' || t.shown
from runtime r join stored t on pg_catalog.has_table_privilege(r.oid, t.oid, 'truncate')
where not pg_catalog.pg_has_role(r.oid, t.relowner, 'member')
union all
select 'relation', shown, 'is a materialized view or foreign table, for which no row-level security exists'
from relation where relkind in ('m', 'f')
union all
select 'view', shown, 'reads with its owner''s rights instead of its caller''s (security_invoker)'
from relation
where relkind = 'v' and not coalesce(
  (select option_value::boolean from pg_catalog.pg_options_to_table(reloptions)
    where option_name = 'security_invoker'), false)
union all
select 'function', p.oid::regprocedure::text, 'runs with the rights of a role that bypasses row-level security'
from pg_catalog.pg_proc p
join pg_catalog.pg_namespace n on n.oid = p.pronamespace and n.nspname = 'motadata'
join pg_catalog.pg_roles o on o.oid = p.proowner
where p.prosecdef and (o.rolsuper or o.rolbypassrls)
union all
select 'table', shown, 'has no column tenant_id' from stored where tenant is null
union all
select 'table', t.shown, 'has no primary key that starts with tenant_id'
from stored t
where t.tenant is not null and not exists (
  select from pg_catalog.pg_index i
  where i.indrelid = t.oid and i.indisprimary and i.indkey[0] = t.tenant)
union all
select 'table', t.shown, 'has a unique index without tenant_id: ' || i.indexrelid::regclass::text
from stored t join pg_catalog.pg_index i on i.indrelid = t.oid
where i.indisunique and t.tenant is not null and not (t.tenant = any (i.indkey::int2[]))
union all
select 'table', t.shown, 'has a foreign key that does not carry tenant_id along: ' || k.conname
from stored t
join pg_catalog.pg_constraint k on k.conrelid = t.oid and k.contype = 'f'
join stored o on o.oid = k.confrelid
where not exists (
  select from pg_catalog.generate_subscripts(k.conkey, 1) as i
  where k.conkey[i] = t.tenant and k.confkey[i] = o.tenant)
union all
select 'table', shown, 'does not enable row-level security' from stored where not relrowsecurity
union all
select 'table', shown, 'does not force row-level security on its owner'
from stored where not relforcerowsecurity
union all
select 'table', t.shown, 'has no tenant policy for all commands with USING and WITH CHECK'
from stored t
where t.relrowsecurity and not exists (
  select from policy p, expected e
  where p.polrelid = t.oid and p.polpermissive and p.polcmd = '*'
    and p.reads = e.condition and p.writes = e.condition)
union all
select 'table', t.shown, 'has a permissive policy that is not the tenant''s: ' || p.polname
from stored t join policy p on p.polrelid = t.oid, expected e
where p.polpermissive
  and (coalesce(p.reads, e.condition) <> e.condition or coalesce(p.writes, e.condition) <> e.condition)
order by 1, 2, 3
