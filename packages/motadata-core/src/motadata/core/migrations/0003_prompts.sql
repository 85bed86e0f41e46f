-- Prompts of tenants: versions that never change, which one is active, and how their variants fared.
create table motadata.prompt_template (
  tenant_id   text        not null,
  name        text        not null check (name ~ '^[A-Za-z0-9_-]{1,64}$'),
  version     int         not null check (version > 0),
  body        text        not null check (length(body) <= 1000000),
  -- What else shapes the prompt: required, defaults, trusted; and its description.
  declaration jsonb       not null,
  checksum    text        not null check (length(checksum) = 64),
  created_at  timestamptz not null default now(),
  primary key (tenant_id, name, version)
);
select motadata.isolate('motadata.prompt_template');

-- A policy keeps versions from changing, not a trigger: Citus distributes tables with policies, and
-- refuses triggers unless it is told to trust them.
create policy prompt_template_never_changes on motadata.prompt_template
  as restrictive for update to public using (true) with check (false);

create table motadata.prompt_active (
  tenant_id    text        not null,
  name         text        not null,
  version      int         not null,
  activated_at timestamptz not null default now(),
  primary key (tenant_id, name),
  foreign key (tenant_id, name, version)
    references motadata.prompt_template (tenant_id, name, version)
);
select motadata.isolate('motadata.prompt_active');

create table motadata.prompt_outcome (
  tenant_id   text        not null,
  experiment  text        not null check (experiment ~ '^[A-Za-z0-9_-]{1,64}$'),
  outcome_id  uuid        not null,
  variant     text        not null check (variant ~ '^[A-Za-z0-9_-]{1,64}$'),
  score       float8      not null
    check (score > '-infinity'::float8 and score < 'infinity'::float8),
  recorded_at timestamptz not null default now(),
  primary key (tenant_id, experiment, outcome_id)
);
select motadata.isolate('motadata.prompt_outcome');
