-- Documents, their kept versions, the chunks of the current version and the words in them.

create table motadata.document (
  tenant_id text not null,
  document_id text collate "C" not null,
  version integer not null check (version >= 1),
  title text not null,
  source text not null,
  media_type text not null,
  metadata jsonb not null,
  digest text not null,
  characters integer not null,
  chunks integer not null,
  words bigint not null,
  embedding_model text,
  updated_at timestamptz not null default now(),
  primary key (tenant_id, document_id)
);
select motadata.isolate('motadata.document');
comment on column motadata.document.digest is
  'SHA-256 of what was ingested and how; equal means that there is nothing to do.';
comment on column motadata.document.embedding_model is
  'Null when the chunks have no vectors.';

-- A citation of an older version still opens: its text stays for a while.
create table motadata.document_version (
  tenant_id text not null,
  document_id text collate "C" not null,
  version integer not null,
  title text not null,
  source text not null,
  media_type text not null,
  metadata jsonb not null,
  sections jsonb not null,
  text text not null,
  digest text not null,
  created_at timestamptz not null default now(),
  primary key (tenant_id, document_id, version),
  foreign key (tenant_id, document_id) references motadata.document on delete cascade
);
select motadata.isolate('motadata.document_version');

create table motadata.chunk (
  tenant_id text not null,
  document_id text collate "C" not null,
  ordinal integer not null,
  version integer not null,
  start_offset integer not null,
  end_offset integer not null check (end_offset > start_offset),
  page integer,
  heading text,
  sections jsonb not null,
  text text not null,
  embedding_model text,
  embedding vector,
  primary key (tenant_id, document_id, ordinal),
  foreign key (tenant_id, document_id, version) references motadata.document_version on delete cascade,
  check ((embedding is null) = (embedding_model is null))
);
select motadata.isolate('motadata.chunk');
-- An exact search reads every vector of a tenant: they stay in the row, and the text moves out of it.
alter table motadata.chunk alter column embedding set storage main;

-- Which chunks hold a term, and how often. A full-text index would not serve: its operator is not
-- leakproof, so that row-level security keeps the planner from using the index. One row holds up
-- to a block of a document's chunks, the three arrays side by side.
create table motadata.posting (
  tenant_id text not null,
  term text collate "C" not null,
  document_id text collate "C" not null,
  block integer not null,
  ordinals integer[] not null,
  frequencies integer[] not null,
  lengths integer[] not null,
  primary key (tenant_id, term, document_id, block),
  foreign key (tenant_id, document_id) references motadata.document on delete cascade
);
create index posting_document on motadata.posting (tenant_id, document_id);
select motadata.isolate('motadata.posting');
comment on column motadata.posting.lengths is 'Number of words of each chunk, for BM25.';

-- One row a tenant. The generation changes in the transaction of each change of its documents, so
-- that nothing cached under an older one is served; the totals are what BM25 needs to know.
create table motadata.knowledge_state (
  tenant_id text primary key,
  generation bigint not null,
  chunks bigint not null,
  words bigint not null
);
select motadata.isolate('motadata.knowledge_state');
