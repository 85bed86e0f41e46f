-- $1 tenant  $2 id  $3 version  $4 title  $5 source  $6 media type  $7 metadata  $8 digest
-- $9 characters  $10 chunks  $11 words  $12 embedding model
insert into motadata.document
  (tenant_id, document_id, version, title, source, media_type, metadata, digest, characters,
   chunks, words, embedding_model)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
on conflict (tenant_id, document_id) do update set
  version = excluded.version, title = excluded.title, source = excluded.source,
  media_type = excluded.media_type, metadata = excluded.metadata, digest = excluded.digest,
  characters = excluded.characters, chunks = excluded.chunks, words = excluded.words,
  embedding_model = excluded.embedding_model, updated_at = now()
