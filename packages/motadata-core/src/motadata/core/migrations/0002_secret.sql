-- Secrets of tenants, encrypted each with a data key of its own, which a master key wraps. The
-- master keys are elsewhere: whoever reads this table alone learns names and lengths.
create table motadata.secret (
  tenant_id   text        not null,
  name        text        not null check (name ~ '^[A-Za-z0-9_-]{1,64}$'),
  -- Changes with each value; bound into the ciphertext.
  revision    uuid        not null,
  key_version text        not null check (length(key_version) between 1 and 256),
  wrapped_key bytea       not null check (octet_length(wrapped_key) between 1 and 8192),
  ciphertext  bytea       not null check (octet_length(ciphertext) between 29 and 65600),
  created_at  timestamptz not null default now(),
  updated_at  timestamptz not null default now(),
  primary key (tenant_id, name)
);

select motadata.isolate('motadata.secret');
