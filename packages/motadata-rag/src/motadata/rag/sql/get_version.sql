-- $1 tenant  $2 id  $3 version, or null for the current one
select v.document_id, v.title, v.source, v.media_type, v.metadata, v.sections, v.text
from motadata.document d
join motadata.document_version v
  on v.tenant_id = d.tenant_id and v.document_id = d.document_id
  and v.version = coalesce($3::integer, d.version)
where d.tenant_id = $1 and d.document_id = $2
