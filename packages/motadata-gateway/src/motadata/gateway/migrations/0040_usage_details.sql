-- What a call wrote to a prompt cache for an hour, and requests of it that nobody knows the use of.

-- Zero for the rows of before, and for those that older instances go on to write.
alter table motadata.gateway_call
  add column long_cache_write_tokens bigint not null default 0,
  add column lost bigint not null default 0;
comment on column motadata.gateway_call.long_cache_write_tokens is
  'Those of cache_write_tokens that the provider keeps for an hour, at another price.';
comment on column motadata.gateway_call.lost is
  'Requests that the provider may charge for and never said the use of; cost_usd is without them.';
