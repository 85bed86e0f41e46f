-- $1 tenant  $2 id  $3 ordinal  $4 version  $5 start  $6 end  $7 page  $8 heading  $9 sections
-- $10 text  $11 embedding model  $12 embedding
insert into motadata.chunk
  (tenant_id, document_id, ordinal, version, start_offset, end_offset, page, heading, sections,
   text, embedding_model, embedding)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
