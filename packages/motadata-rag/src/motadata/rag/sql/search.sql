-- Hybrid search in one statement: BM25 over the postings, exact cosine over the tenant's vectors.
--
-- The score is a convex combination of the cosine and of the share that BM25 reaches of what it could
-- at most. Both are absolute, so that scores of different queries and tenants compare, and a single
-- poor chunk does not look perfect for lack of others.
--
-- $1 tenant  $2 words of the query  $3 how often each occurs  $4 its vector or null
-- $5 model of the vector  $6 candidates a side  $7 weight of the vector side
-- $8 document ids, none for all  $9 rows  $10 BM25 k1  $11 BM25 b
with
query_term as materialized (
  select stem.term, sum(query.frequency)::float8 as frequency
  from unnest($2::text[], $3::integer[]) as query (word, frequency)
  cross join lateral unnest(ts_lexize('pg_catalog.english_stem', query.word)) as stem (term)
  group by stem.term
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
         query_term.frequency
           * ln(1 + (greatest(total.chunks - coalesce(known.chunks, 0), 0) + 0.5)
                    / (coalesce(known.chunks, 0) + 0.5)) as weight
  from query_term
  cross join total
  left join (select term, count(*) as chunks from hit group by term) as known
    on known.term = query_term.term
),
lexical as materialized (
  select hit.document_id, hit.ordinal,
         sum(weight.weight * hit.frequency * ($10::float8 + 1)
             / (hit.frequency + $10 * (1 - $11::float8 + $11 * hit.length / total.length))) as score,
         sum(weight.weight) as matched
  from hit
  join weight on weight.term = hit.term
  cross join total
  where cardinality($8::text[]) = 0 or hit.document_id = any ($8)
  group by hit.document_id, hit.ordinal
),
dense as materialized (
  select document_id, ordinal
  from motadata.chunk
  where tenant_id = $1 and embedding_model = $5 and $4::vector is not null
    and (cardinality($8) = 0 or document_id = any ($8))
  order by embedding <=> $4, document_id, ordinal
  limit $6
),
-- Aggregated rather than joined: the planner expects one row of each side and would nest loops.
candidate as materialized (
  select document_id, ordinal, max(score) as lexical, max(matched) as matched
  from (
    select document_id, ordinal, score, matched, false as is_dense,
           row_number() over (order by score desc, document_id, ordinal) as place
    from lexical
    union all
    select document_id, ordinal, null, null, true, null from dense
  ) as side
  group by document_id, ordinal
  having bool_or(is_dense) or min(place) <= $6
),
possible as materialized (
  select sum(weight) as weight from weight
),
scored as (
  select candidate.document_id, candidate.ordinal, candidate.lexical,
         coalesce(candidate.matched / possible.weight, 0) as coverage,
         coalesce(candidate.lexical / (possible.weight * ($10 + 1)), 0) as share,
         case when chunk.embedding_model = $5 then 1 - (chunk.embedding <=> $4::vector) end
           as similarity
  from candidate
  cross join possible
  join motadata.chunk
    on chunk.tenant_id = $1 and chunk.document_id = candidate.document_id
    and chunk.ordinal = candidate.ordinal
),
best as materialized (
  select document_id, ordinal, lexical, coverage, similarity,
         case when $4::vector is null then share
              else $7::float8 * coalesce(similarity, 0) + (1 - $7) * share end as score
  from scored
  order by score desc, document_id, ordinal
  limit $9
)
select best.document_id, chunk.version, best.ordinal, document.title, document.source,
       chunk.text, chunk.start_offset, chunk.end_offset, chunk.page, chunk.heading, chunk.sections,
       least(greatest(best.score, 0), 1) as score, best.similarity, best.lexical, best.coverage
from best
join motadata.chunk
  on chunk.tenant_id = $1 and chunk.document_id = best.document_id
  and chunk.ordinal = best.ordinal
join motadata.document
  on document.tenant_id = $1 and document.document_id = best.document_id
order by best.score desc, best.document_id, best.ordinal
