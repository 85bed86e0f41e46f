-- $1 tenant  $2 last id of the page before, or null  $3 rows
select document_id, title, source, version, media_type, digest, characters, chunks, updated_at,
       metadata
from motadata.document
where tenant_id = $1 and document_id > coalesce($2::text, '')
order by document_id
limit $3
