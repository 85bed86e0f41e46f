-- $1 tenant  $2 chunks more  $3 words more
insert into motadata.knowledge_state (tenant_id, generation, chunks, words)
values ($1, 1, greatest($2::bigint, 0), greatest($3::bigint, 0))
on conflict (tenant_id) do update set
  generation = knowledge_state.generation + 1,
  chunks = greatest(knowledge_state.chunks + $2::bigint, 0),
  words = greatest(knowledge_state.words + $3::bigint, 0)
