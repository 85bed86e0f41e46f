-- Answers that a similar question may get again.

create table motadata.semantic_answer (
  tenant_id text not null,
  context text collate "C" not null,
  answer_id uuid not null,
  embedding vector not null,
  answer bytea not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  primary key (tenant_id, context, answer_id)
);
select motadata.isolate('motadata.semantic_answer');
create index semantic_answer_age on motadata.semantic_answer (tenant_id, created_at);
comment on column motadata.semantic_answer.context is
  'SHA-256 of everything but the question''s words: model, instructions, numbers and names in it.';
comment on column motadata.semantic_answer.answer is 'A Completion, as MessagePack.';
