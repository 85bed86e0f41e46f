"""What the server does in one step, as Lua scripts; the time is the server's, for everybody."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha1
from typing import Final


@dataclass(frozen=True, slots=True)
class Script:
    """A script of one key, and the name under which the server remembers it."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        """Work out the name."""
        name = sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", name)


_NOW: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
"""

# ARGV tokens a ms, burst, instance, tokens given back, cost of the first call, tokens that calls
# wait for, tokens to hold in reserve, ms of a lease, start (full | empty | empty_all)
#
# The hash holds the level, when it was that, and for each instance: tokens held, tokens waited for,
# since when, end of the lease. What calls waited for is used at once; what an instance holds beyond
# that counts against the burst until its lease ends, so that it may still use it and no span sees
# more than burst and refill. What accrued for others that wait, in equal parts, is not given away;
# so none of them starves.
LEASE: Final = Script(
    _NOW
    + """
local rate, burst, me = tonumber(ARGV[1]), tonumber(ARGV[2]), 'i:' .. ARGV[3]
local first, need, extra = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local level, at, since, held, peers, others = nil, now, nil, 0, 1, {}
local state = redis.call('HGETALL', KEYS[1])
for number = 1, #state, 2 do
  local name, value = state[number], state[number + 1]
  if name == 'level' then level = tonumber(value)
  elseif name == 'at' then at = tonumber(value)
  else
    local hold, wish, from, ends = string.match(value, '(%S+) (%S+) (%S+) (%S+)')
    wish = tonumber(wish)
    if name == me then
      if wish > 0 then since = tonumber(from) end
    elseif tonumber(ends) < now then redis.call('HDEL', KEYS[1], name)
    else
      held, peers = held + tonumber(hold), peers + 1
      if wish > 0 then others[#others + 1] = {wish, tonumber(from), name} end
    end
  end
end
if level then level = level + math.max(0, now - at) * rate
elseif ARGV[9] == 'full' then level = burst
else level = 0 end
level = math.min(level + tonumber(ARGV[4]), burst - held)
if ARGV[9] == 'empty_all' then level = math.min(level, 0) end
local waiting = #others + (need > 0 and 1 or 0)
local owed, oldest = 0, true
for _, other in ipairs(others) do
  owed = owed + math.min(other[1], math.max(0, now - other[2]) * rate / waiting)
  if not since or other[2] < since or (other[2] == since and other[3] < me) then oldest = false end
end
if #others > 0 then extra = 0 end
local there = level - owed
-- When all have waited so long that more is owed than the bucket ever holds, none would get
-- anything: then it is the turn of the one who waits longest.
if oldest and there < first then there = level end
local grant = math.max(0, math.min(need + extra, there))
if grant < first then grant = 0 end
level = level - grant
local rest = math.max(0, need - grant)
if grant > 0 or not since then since = now end
local lease = tonumber(ARGV[8])
redis.call('HSET', KEYS[1], 'level', string.format('%.9f', level), 'at', string.format('%.3f', now),
  me, string.format('%.9f %.9f %.3f %.3f', math.max(0, grant - need), rest, since, now + lease))
redis.call('PEXPIRE', KEYS[1], math.ceil((burst - level) / rate + lease + 1000))
return string.format('%.9f %.9f %d %d', grant, there - grant, waiting, peers)
"""
)

_SLOTS: Final = """
local openings = tonumber(redis.call('HGET', KEYS[1], 'openings') or '0')
local left = tonumber(redis.call('HGET', KEYS[1], 'until') or '0') - now
"""

# ARGV window ms, least calls, ratio, pause ms, longest pause ms, calls, failures,
# probe (0 for none), its outcome (closed | open | none)
RECORD: Final = Script(
    _NOW
    + _SLOTS
    + """
local function answer(openings, left)
  return string.format('%d %.3f', openings, math.max(0, left))
end
local function open(openings)
  local pause = math.min(tonumber(ARGV[5]), tonumber(ARGV[4]) * 2 ^ math.min(openings, 30))
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'openings', openings + 1, 'until', string.format('%.3f', now + pause))
  -- Who asks again much later finds it closed: what failed then says little about now.
  redis.call('PEXPIRE', KEYS[1], math.ceil(pause + 10 * tonumber(ARGV[5])))
  return answer(openings + 1, pause)
end
if openings > 0 then
  local probe = 'p' .. ARGV[8]
  if redis.call('HDEL', KEYS[1], probe) == 0 or ARGV[9] == 'none' then
    return answer(openings, left)
  end
  if ARGV[9] == 'open' then return open(openings) end
  redis.call('DEL', KEYS[1])
  return answer(0, 0)
end
local calls, failures = tonumber(ARGV[6]), tonumber(ARGV[7])
if calls == 0 then return answer(0, 0) end
local slot = math.floor(now / tonumber(ARGV[1]) * 10)
local place = 's' .. slot % 10
local all, bad = calls, failures
for number = 0, 9 do
  local value = redis.call('HGET', KEYS[1], 's' .. number)
  if value then
    local when, good, wrong = string.match(value, '(%d+) (%d+) (%d+)')
    if slot - tonumber(when) < 10 then
      all, bad = all + good, bad + wrong
      if tonumber(when) == slot then calls, failures = calls + good, failures + wrong end
    end
  end
end
redis.call('HSET', KEYS[1], place, string.format('%d %d %d', slot, calls, failures))
redis.call('PEXPIRE', KEYS[1], math.ceil(tonumber(ARGV[1]) * 2))
if all >= tonumber(ARGV[2]) and bad > 0 and bad >= tonumber(ARGV[3]) * all then return open(0) end
return answer(0, 0)
"""
)

# ARGV probes, ms after which a probe without outcome is given up
# Answers the probe's name, 0 when it is closed, -1 when refused; and ms until it is worth asking.
PROBE: Final = Script(
    _NOW
    + _SLOTS
    + """
if openings == 0 then return '0 0' end
if left > 0 then return string.format('-1 %.3f', left) end
for number = 1, tonumber(ARGV[1]) do
  local ends = tonumber(redis.call('HGET', KEYS[1], 'p' .. number) or '0')
  if ends < now then
    redis.call('HSET', KEYS[1], 'p' .. number, string.format('%.3f', now + tonumber(ARGV[2])))
    redis.call('PEXPIRE', KEYS[1], 10 * math.ceil(tonumber(ARGV[2])))
    return number .. ' 0'
  end
end
return '-1 100'
"""
)

# ARGV deposit, reserve, what a retry takes, ms of life
WITHDRAW: Final = Script("""
local reserve = tonumber(ARGV[2])
local tokens, advance = reserve, reserve
local known = redis.call('GET', KEYS[1])
if known then
  local first, second = string.match(known, '^(%S+) ?(%S*)')
  tokens, advance = tonumber(first), tonumber(second) or 0
end
local repaid = math.min(advance, tonumber(ARGV[1]))
advance = advance - repaid
tokens = math.min(reserve, tokens + tonumber(ARGV[1]) - repaid)
local granted = 0
if tokens >= tonumber(ARGV[3]) then granted = 1 tokens = tokens - tonumber(ARGV[3]) end
redis.call('SET', KEYS[1], string.format('%.9f %.9f', tokens, advance), 'PX', ARGV[4])
return string.format('%d %.9f', granted, tokens)
""")
