-- What people say about the answers of a model.

create table motadata.feedback (
  tenant_id text not null,
  feedback_id uuid not null,
  -- A row of motadata.gateway_call of the same tenant, sooner or later. No constraint says so:
  -- feedback may be faster than the usage log, and outlives what the log's retention deletes.
  call_id uuid not null,
  kind text not null check (kind in ('rating', 'vote', 'correction', 'flag')),
  user_id text not null check (length(user_id) <= 200),
  approves boolean,
  stars smallint check (stars between 1 and 5),
  reason text not null,
  body text not null check (length(body) <= 20000),
  digest bytea not null,
  prompt text,
  model text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (tenant_id, feedback_id)
);
select motadata.isolate('motadata.feedback');
create index feedback_call on motadata.feedback (tenant_id, call_id);
create index feedback_user on motadata.feedback (tenant_id, user_id);
create index feedback_age on motadata.feedback (tenant_id, created_at);
create index feedback_unlinked on motadata.feedback (tenant_id, created_at) where model is null;
comment on column motadata.feedback.approves is
  'NULL for three stars, which are neither.';
comment on column motadata.feedback.body is
  'The correction, or the comment.';
comment on column motadata.feedback.digest is
  'SHA-256 of a correction without case, blanks and punctuation at its ends; else empty.';
comment on column motadata.feedback.model is
  'With prompt, copied from the call as soon as the usage log has it; NULL until then.';
