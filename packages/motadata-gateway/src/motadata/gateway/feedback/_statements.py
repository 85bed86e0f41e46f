"""The SQL of feedback. Every statement names its tenant, and row-level security checks it."""

from __future__ import annotations

from typing import Final


RECORD: Final = """
insert into motadata.feedback as old (
  tenant_id, feedback_id, call_id, kind, user_id, approves, stars, reason, body, digest,
  prompt, model
)
select said.*, call.prompt, call.model
from (values (
  $1::text, $2::uuid, $3::uuid, $4::text, $5::text, $6::bool, $7::int2, $8::text, $9::text,
  $10::bytea
)) as said (tenant_id, feedback_id, call_id)
left join motadata.gateway_call as call
  on call.tenant_id = said.tenant_id and call.call_id = said.call_id
on conflict (tenant_id, feedback_id) do update set
  approves = excluded.approves, stars = excluded.stars, reason = excluded.reason,
  body = excluded.body, digest = excluded.digest, updated_at = clock_timestamp(),
  prompt = coalesce(excluded.prompt, old.prompt), model = coalesce(excluded.model, old.model)
where (old.call_id, old.kind, old.user_id) = (excluded.call_id, excluded.kind, excluded.user_id)
  and (old.approves, old.stars, old.reason, old.body)
    is distinct from (excluded.approves, excluded.stars, excluded.reason, excluded.body)
returning xmax = 0 as created
"""
"""Nothing comes back when nothing changed, or when the id belongs to other feedback."""

FIND: Final = """
select call_id, kind, user_id from motadata.feedback where tenant_id = $1 and feedback_id = $2
"""

LINK: Final = """
update motadata.feedback as said set prompt = call.prompt, model = call.model
from motadata.gateway_call as call
where said.tenant_id = $1 and said.model is null and said.created_at >= $2
  and call.tenant_id = $1 and call.call_id = said.call_id
"""

UNLINKED: Final = """
select count(*) as unlinked from motadata.feedback
where tenant_id = $1 and model is null and created_at >= $2 and created_at < $3
"""

JUDGEMENTS: Final = """
select prompt, model, count(*) filter (where not rejected and approved) as approvals,
  count(*) filter (where rejected) as rejections
from (
  select prompt, model, coalesce(bool_or(not approves), false) as rejected,
    coalesce(bool_or(approves), false) as approved
  from motadata.feedback
  where tenant_id = $1 and model is not null and created_at >= $2 and created_at < $3
  group by prompt, model, call_id, user_id
) as judgement
group by prompt, model
order by count(*) desc, prompt, model
limit $4
"""

STARS: Final = """
select prompt, model, count(*) as ratings, avg(stars)::float8 as mean
from motadata.feedback
where tenant_id = $1 and model is not null and created_at >= $2 and created_at < $3
  and kind = 'rating'
group by prompt, model
"""

FLAGS: Final = """
select prompt, model, reason, count(*) as flags
from motadata.feedback
where tenant_id = $1 and model is not null and created_at >= $2 and created_at < $3
  and kind = 'flag'
group by prompt, model, reason
order by flags desc, reason
"""

CORRECTIONS: Final = """
select prompt, model, body, given
from (
  select prompt, model, (array_agg(body order by updated_at desc, feedback_id))[1] as body,
    count(*) as given,
    row_number() over (
      partition by prompt, model order by count(*) desc, max(updated_at) desc, digest
    ) as place
  from motadata.feedback
  where tenant_id = $1 and model is not null and created_at >= $2 and created_at < $3
    and kind = 'correction'
  group by prompt, model, digest
) as common
where place <= $4
order by place
"""

JUDGED_CALLS: Final = """
select distinct call_id from motadata.feedback
where tenant_id = $1 and call_id > $2 order by call_id limit $3
"""

EXAMPLES: Final = """
with said as (
  select * from motadata.feedback where tenant_id = $1 and call_id = any($2)
), correction as materialized (
  select distinct on (call_id) call_id, body
  from (
    select call_id, (array_agg(body order by updated_at desc, feedback_id))[1] as body,
      count(distinct user_id) as users, max(updated_at) as said_at, digest
    from said where kind = 'correction' group by call_id, digest
  ) as worded
  where users >= $3
  order by call_id, users desc, said_at desc, digest
), judgement as (
  select call_id, count(distinct user_id) filter (where approves) as approvals,
    count(*) filter (where not approves) as rejections
  from said group by call_id
)
select call.call_id, call.asked, call.prompt, call.model, call.feature,
  correction.body as corrected, call.answered
from judgement
join motadata.gateway_call as call on call.tenant_id = $1 and call.call_id = judgement.call_id
left join correction on correction.call_id = judgement.call_id
where call.call_id = any($2) and call.asked is not null and call.error = ''
  and ($4::text is null or call.prompt = $4)
  and (correction.body is not null or (
    judgement.approvals >= $3 and judgement.rejections = 0
    and call.answered is not null and call.answered <> '' and call.finish_reason = 'stop'
  ))
order by call.call_id
"""

OF_CALL: Final = """
select kind, user_id, stars, approves, reason, body from motadata.feedback
where tenant_id = $1 and call_id = $2 order by created_at, feedback_id limit 1000
"""

ERASE_USER: Final = "delete from motadata.feedback where tenant_id = $1 and user_id = $2"

DELETE_BEFORE: Final = "delete from motadata.feedback where tenant_id = $1 and created_at < $2"
