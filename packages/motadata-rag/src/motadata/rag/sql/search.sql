-- Hybrid search in one statement: BM25 over the postings, exact cosine over the tenant's vectors,
-- fused as a convex combination of both scores, each scaled to its range among the candidates.
--
-- $1 tenant  $2 words of the query  $3 its vector or null  $4 model of the vector
-- $5 candidates a side  $6 weight of the vector side  $7 document ids, none for all  $8 rows
-- $9 BM25 k1  $10 BM25 b
with
query_term as materialized (
  select distinct stem.term
  from unnest($2::text[]) as query (word)
  cross join lateral unnest(ts_lexize('pg_catalog.english_stem', query.word)) as stem (term)
),
total as materialized (
  select chunks::float8 as chunks, greatest(words, 1)::float8 / greatest(chunks, 1) as length
  from motadata.knowledge_state where tenant_id = $1
),
hit as materialized (
  select posting.term, posting.document_id, found.ordinal, found.frequency, found.length
  from motadata.posting
  cross join lateral unnest(posting.ordinals, posting.frequencies, posting.lengths)
    as found (ordinal, frequency, length)
  where posting.tenant_id = $1
    and posting.term = any ((select array_agg(term) from query_term)::text[])
),
weight as materialized (
  select query_term.term,
         ln(1 + greatest(total.chunks - count(hit.term) + 0.5, 0.5) / (count(hit.term) + 0.5)) as idf
  from query_term
  cross join total
  left join hit on hit.term = query_term.term
  group by query_term.term, total.chunks
),
lexical as materialized (
  select hit.document_id, hit.ordinal,
         sum(weight.idf * hit.frequency * ($9::float8 + 1)
             / (hit.frequency + $9 * (1 - $10::float8 + $10 * hit.length / total.length))) as score,
         sum(weight.idf) / (select sum(idf) from weight) as coverage
  from hit
  join weight on weight.term = hit.term
  cross join total
  where cardinality($7::text[]) = 0 or hit.document_id = any ($7)
  group by hit.document_id, hit.ordinal
),
dense as materialized (
  select document_id, ordinal
  from motadata.chunk
  where tenant_id = $1 and embedding_model = $4 and $3::vector is not null
    and (cardinality($7) = 0 or document_id = any ($7))
  order by embedding <=> $3, document_id, ordinal
  limit $5
),
candidate as (
  select document_id, ordinal from dense
  union
  (select document_id, ordinal from lexical order by score desc, document_id, ordinal limit $5)
),
scored as materialized (
  select chunk.document_id, chunk.ordinal, lexical.score as lexical, lexical.coverage,
         case when chunk.embedding_model = $4 then 1 - (chunk.embedding <=> $3::vector) end
           as similarity
  from candidate
  join motadata.chunk
    on chunk.tenant_id = $1 and chunk.document_id = candidate.document_id
    and chunk.ordinal = candidate.ordinal
  left join lexical
    on lexical.document_id = candidate.document_id and lexical.ordinal = candidate.ordinal
),
range as materialized (
  select max(lexical) as lexical, min(similarity) as low, max(similarity) as high from scored
),
fused as (
  select scored.*,
         case
           when $3::vector is null then coalesce(scored.lexical / range.lexical, 0)
           else $6::float8 * coalesce(
                  case when range.high > range.low
                    then (scored.similarity - range.low) / (range.high - range.low) else 1 end, 0)
                + (1 - $6) * coalesce(scored.lexical / nullif(range.lexical, 0), 0)
         end as score
  from scored cross join range
  order by score desc, document_id, ordinal
  limit $8
)
select fused.document_id, chunk.version, fused.ordinal, document.title, document.source,
       chunk.text, chunk.start_offset, chunk.end_offset, chunk.page, chunk.heading, chunk.sections,
       least(greatest(fused.score, 0), 1) as score, fused.similarity, fused.lexical,
       coalesce(fused.coverage, 0) as coverage
from fused
join motadata.chunk
  on chunk.tenant_id = $1 and chunk.document_id = fused.document_id
  and chunk.ordinal = fused.ordinal
join motadata.document
  on document.tenant_id = $1 and document.document_id = fused.document_id
order by fused.score desc, fused.document_id, fused.ordinal
