"""What the server does in one step, as Lua scripts.

Reads need none: one MGET brings values and the words that make their generation, of one moment. Who
changes something may not rely on a generation that it read before, so scripts read it themselves
and put it between the parts of a key that `motadata.core.cache._key` spelled out.

Generations and tags bear random words that never come again. When the server forgets one, because
it was restarted or short of memory, the values that depend on it are forgotten with it, and no old
value can become valid again.

The index of a namespace is a sorted set of its keys by expiry. It also holds the generation that it
belongs to, under a name that no key has. When the server has lost the index it makes a new
generation, so a pattern finds every key whose value can be read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha1
from typing import Final


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the name under which the server remembers it."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        """Work out the name."""
        name = sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", name)


# A value is: version, number of tags, when it ends, tags, encoded value; see `_redis_values`.
_IS_FRESH: Final = """
local function is_fresh(value, head)
  local count = string.byte(value, 2) or 0
  for number = 0, count - 1 do
    local at = 16 + number * 48
    local word = redis.call('GET', head .. 'tag:' .. string.sub(value, at, at + 31))
    if word ~= string.sub(value, at + 32, at + 47) then return false end
  end
  return true
end
"""

# Words live an hour longer than what depends on them.
_OPEN: Final = """
local function keep(key, life)
  if redis.call('PTTL', key) < life then redis.call('PEXPIRE', key, life + 3600000) end
end
local function word_of(key, fresh, life)
  local word = redis.call('GET', key)
  if word then keep(key, life) return word end
  redis.call('SET', key, fresh, 'PX', life + 3600000)
  return fresh
end
local function open(fresh, life)
  local tenant = word_of(KEYS[1], fresh, life)
  local space = redis.call('GET', KEYS[2])
  if space and redis.call('ZSCORE', KEYS[3], '\\0' .. tenant .. '.' .. space) then
    keep(KEYS[2], life)
    keep(KEYS[3], life)
    return tenant .. '.' .. space
  end
  redis.call('SET', KEYS[2], fresh, 'PX', life + 3600000)
  redis.call('UNLINK', KEYS[3])
  redis.call('ZADD', KEYS[3], '+inf', '\\0' .. tenant .. '.' .. fresh)
  redis.call('PEXPIRE', KEYS[3], life + 3600000)
  return tenant .. '.' .. fresh
end
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
"""

# The ledger names each value after its size, by expiry. It counts 128 bytes for a key.
_LEDGER: Final = """
local function account(key, expiry, quota)
  if quota == 0 then return end
  local size = redis.call('STRLEN', key)
  if expiry then
    redis.call('ZADD', KEYS[4], expiry, size .. ' ' .. key)
    redis.call('INCRBY', KEYS[5], size + 128)
  elseif size > 0 and redis.call('ZREM', KEYS[4], size .. ' ' .. key) == 1 then
    redis.call('DECRBY', KEYS[5], size + 128)
  end
end
local function drop(members)
  for _, member in ipairs(members) do
    local space = string.find(member, ' ', 1, true)
    redis.call('UNLINK', string.sub(member, space + 1))
    redis.call('DECRBY', KEYS[5], tonumber(string.sub(member, 1, space - 1)) + 128)
  end
end
local function make_room(time, quota, life)
  if quota == 0 then return end
  if redis.call('EXISTS', KEYS[4]) == 0 then redis.call('DEL', KEYS[5]) return end
  local past = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', time, 'LIMIT', 0, 100)
  if #past > 0 then redis.call('ZREM', KEYS[4], unpack(past)) drop(past) end
  while tonumber(redis.call('GET', KEYS[5]) or '0') > quota do
    local popped = redis.call('ZPOPMIN', KEYS[4])
    if #popped == 0 then redis.call('DEL', KEYS[5]) return end
    drop({popped[1]})
  end
  if redis.call('PTTL', KEYS[4]) < life then
    redis.call('PEXPIRE', KEYS[4], life + 3600000)
    redis.call('PEXPIRE', KEYS[5], life + 7200000)
  end
end
"""

# KEYS generation, namespace, index, ledger, total · ARGV head, lock head, tail, fresh word, quota,
# longest life, entries of: digest, key, life, guard, value, number of tags, (tag digest, word)
# A guard is the lock's content under which alone the value may be stored.
WRITE: Final = Script(
    _OPEN
    + _LEDGER
    + """
local head, fresh, quota, longest = ARGV[1], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local generation = open(fresh, longest)
local time = now()
local past = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', time, 'LIMIT', 0, 100)
if #past > 0 then redis.call('ZREM', KEYS[3], unpack(past)) end
local stored, at = {}, 7
while at <= #ARGV do
  local place = generation .. ARGV[3] .. ARGV[at]
  local key, life, guard = head .. place, tonumber(ARGV[at + 2]), ARGV[at + 3]
  local count = tonumber(ARGV[at + 5])
  local lock = ARGV[2] .. place
  if guard == '' or redis.call('GET', lock) == guard then
    local tags = {}
    for number = 1, count do
      local tag, word = ARGV[at + 4 + number * 2], ARGV[at + 5 + number * 2]
      if word == '' then word = word_of(head .. 'tag:' .. tag, fresh, longest) end
      tags[number] = tag .. word
    end
    local value = string.char(2, count) .. string.format('%013.0f', time + life)
      .. table.concat(tags) .. ARGV[at + 4]
    redis.call('DEL', lock)
    account(key, nil, quota)
    if quota > 0 and #value + 128 > quota then
      redis.call('DEL', key)
    else
      redis.call('SET', key, value, 'PX', life)
      redis.call('ZADD', KEYS[3], time + life, ARGV[at + 1])
      account(key, time + life, quota)
    end
    stored[#stored + 1] = 1
  else
    stored[#stored + 1] = 0
  end
  at = at + 6 + count * 2
end
make_room(time, quota, longest)
return stored
"""
)

# KEYS generation, namespace, index · ARGV head, lock head, tail, fresh word, digest, key, lease,
# lock's content, life, tag digests → {0} wait | {1, value} | {2, lock, tags' words}
ACQUIRE: Final = Script(
    _IS_FRESH
    + _OPEN
    + """
local head, fresh, lease, longest = ARGV[1], ARGV[4], tonumber(ARGV[7]), tonumber(ARGV[9])
local place = open(fresh, longest) .. ARGV[3] .. ARGV[5]
local value = redis.call('GET', head .. place)
if value and is_fresh(value, head) then return {1, value} end
local lock = ARGV[2] .. place
if not redis.call('SET', lock, ARGV[8], 'NX', 'PX', lease) then return {0} end
redis.call('ZADD', KEYS[3], 'GT', now() + lease, ARGV[6])
local answer = {2, lock}
for number = 10, #ARGV do
  answer[#answer + 1] = word_of(head .. 'tag:' .. ARGV[number], fresh, longest)
end
return answer
"""
)

# KEYS lock, index · ARGV the lock's content, lease, key
RENEW: Final = Script(
    """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local time = redis.call('TIME')
redis.call('ZADD', KEYS[2], 'GT', time[1] * 1000 + ARGV[2], ARGV[3])
return 1
"""
)

# KEYS lock · ARGV the lock's content
RELEASE: Final = Script(
    """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""
)

# KEYS generation, namespace, index, ledger, total · ARGV head, lock head, tail, quota,
# entries of: digest, key
FORGET: Final = Script(
    _IS_FRESH
    + _LEDGER
    + """
local gone = {}
local words = redis.call('MGET', KEYS[1], KEYS[2])
for at = 5, #ARGV, 2 do
  gone[#gone + 1] = 0
  if words[1] and words[2] then
    local place = words[1] .. '.' .. words[2] .. ARGV[3] .. ARGV[at]
    local key = ARGV[1] .. place
    local first = redis.call('GETRANGE', key, 0, 1)
    if #first == 2 then
      local tags = redis.call('GETRANGE', key, 0, 14 + 48 * string.byte(first, 2))
      if is_fresh(tags, ARGV[1]) then gone[#gone] = 1 end
      account(key, nil, tonumber(ARGV[4]))
    end
    redis.call('DEL', key, ARGV[2] .. place)
    redis.call('ZREM', KEYS[3], ARGV[at + 1])
  end
end
return gone
"""
)

# KEYS generation, namespace, index → the generation whose keys the index holds, or an empty text
# when there is nothing to find; a namespace whose index was lost is forgotten.
INDEXED: Final = Script(
    """
local words = redis.call('MGET', KEYS[1], KEYS[2])
if not words[1] or not words[2] then return '' end
local generation = words[1] .. '.' .. words[2]
if redis.call('ZSCORE', KEYS[3], '\\0' .. generation) then return generation end
redis.call('DEL', KEYS[2])
return ''
"""
)
