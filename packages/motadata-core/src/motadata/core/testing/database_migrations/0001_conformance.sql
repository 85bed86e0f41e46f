create table motadata.conformance_items (
  tenant_id text not null,
  id text not null,
  body text,
  details jsonb,
  embedding vector(3),
  primary key (tenant_id, id)
);
select motadata.isolate('motadata.conformance_items');
