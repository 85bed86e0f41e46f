-- $1 tenant  $2 id  $3 version  $4 title  $5 source  $6 media type  $7 metadata  $8 sections
-- $9 text  $10 digest
insert into motadata.document_version
  (tenant_id, document_id, version, title, source, media_type, metadata, sections, text, digest)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
