-- The ground on which every component's tables stand.

create extension if not exists vector;

create schema if not exists motadata;
revoke all on schema motadata from public;

-- Every migration that creates a table calls this once for it:
--     select motadata.isolate('motadata.documents');
-- The table needs a column tenant_id text, first in its primary key.
create function motadata.isolate(target regclass) returns void
language plpgsql
set search_path = pg_catalog
as $isolate$
begin
  execute format('alter table %s alter column tenant_id set not null', target);
  execute format(
    'alter table %s add constraint tenant_grammar check (tenant_id ~ %L)',
    target, '^[A-Za-z0-9_-]{1,64}$'
  );
  execute format('alter table %s enable row level security', target);
  execute format('alter table %s force row level security', target);
  -- The sub-select makes the planner read the setting once a query, not once a row.
  execute format(
    'create policy tenant_isolation on %s as permissive for all to public'
    ' using (tenant_id = (select current_setting(''motadata.tenant_id'', true)))'
    ' with check (tenant_id = (select current_setting(''motadata.tenant_id'', true)))',
    target
  );
end
$isolate$;
revoke all on function motadata.isolate(regclass) from public;
