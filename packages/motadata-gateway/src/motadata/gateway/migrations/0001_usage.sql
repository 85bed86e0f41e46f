-- Every call of a model: what it used, what it cost, and how it went.

create table motadata.gateway_call (
  tenant_id text not null,
  -- Of version 7: ids sort by time, so that the primary key serves every range of time.
  call_id uuid not null,
  began_at timestamptz not null,
  operation text not null check (operation in ('chat', 'embedding')),
  user_id text not null,
  feature text not null,
  prompt text not null,
  model_asked text not null,
  model text not null,
  provider text not null,
  input_tokens bigint not null,
  cached_input_tokens bigint not null,
  cache_write_tokens bigint not null,
  output_tokens bigint not null,
  reasoning_tokens bigint not null,
  web_searches bigint not null,
  cost_usd numeric,
  saved_usd numeric,
  price_version text not null,
  seconds double precision not null,
  first_token_seconds double precision,
  streamed boolean not null,
  cached text not null,
  shared boolean not null,
  fallback_from text,
  attempts integer not null,
  finish_reason text not null,
  error text not null,
  verdicts jsonb not null,
  trace_id text not null,
  asked text,
  answered text,
  primary key (tenant_id, call_id)
);
select motadata.isolate('motadata.gateway_call');
comment on column motadata.gateway_call.cost_usd is
  'What the provider charged for this call; NULL when the model has no known price.';
comment on column motadata.gateway_call.saved_usd is
  'What the answer would have cost, had it not been cached or shared.';
comment on column motadata.gateway_call.verdicts is
  'Rules that spoke, as [rule, action, stage].';
comment on column motadata.gateway_call.asked is
  'The conversation; NULL unless the platform asked for prompts to be kept.';

-- What a tenant is charged in place of the listed prices.
create table motadata.gateway_price (
  tenant_id text not null,
  model text not null check (length(model) between 1 and 256),
  prices jsonb not null,
  changed_at timestamptz not null default now(),
  primary key (tenant_id, model)
);
select motadata.isolate('motadata.gateway_price');
