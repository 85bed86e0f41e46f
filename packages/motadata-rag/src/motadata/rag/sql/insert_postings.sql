-- Store which chunks hold which terms, for one block of a document's chunks.
--
-- $1 tenant  $2 document  $3 block  $4 words  $5 ordinal of the chunk of each  $6 how often it occurs
-- $7 ordinal of the block's first chunk  $8 number of words of each chunk of the block
with
occurrence as materialized (
  select word, ordinal, frequency
  from unnest($4::text[], $5::integer[], $6::integer[]) as found (word, ordinal, frequency)
),
stem as materialized (
  select word, unnest(ts_lexize('pg_catalog.english_stem', word)) as term
  from (select distinct word from occurrence) as distinct_word
),
counted as (
  select stem.term, occurrence.ordinal, sum(occurrence.frequency)::integer as frequency
  from occurrence
  join stem on stem.word = occurrence.word
  group by stem.term, occurrence.ordinal
)
insert into motadata.posting
  (tenant_id, term, document_id, block, ordinals, frequencies, lengths)
select $1, term, $2, $3,
       array_agg(ordinal order by ordinal),
       array_agg(frequency order by ordinal),
       array_agg(($8::integer[])[ordinal - $7::integer + 1] order by ordinal)
from counted
group by term
