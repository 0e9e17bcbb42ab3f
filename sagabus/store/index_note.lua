#!lua
-- index_note.lua: note in the index of a class, on a cluster, what commits have changed; commit.lua does it elsewhere.
-- Notes of several workers may come in another order than their commits. What is older than what is there is passed
-- over, so that no saga with siblings goes missing; what else is wrong then is mended by whoever lists it.
-- KEYS[1]  zset    id -> when it began, or, below zero, when it expires
-- KEYS[2]  zset    id -> since when it has siblings
-- ARGV     for each saga its id; the first score, or ''; the second, below zero for none since then, or ''
-- RETURNS  nothing

-- A foreign value fails here, not between two writes.
redis.call('ZCARD', KEYS[2])
for i = 1, #ARGV, 3 do
  local id, age, fork = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  if age then
    local before = tonumber(redis.call('ZSCORE', KEYS[1], id) or '-1')
    if age < 0 or age > before then redis.call('ZADD', KEYS[1], age, id) end
  end
  if fork then
    local since = tonumber(redis.call('ZSCORE', KEYS[2], id) or '0')
    if fork > since then
      redis.call('ZADD', KEYS[2], fork, id)
    elseif fork < 0 and since > 0 and since <= -fork then
      redis.call('ZREM', KEYS[2], id)
    end
  end
end

-- Where all of a class have completed, their index ends with the last tombstone.
if redis.call('ZCOUNT', KEYS[1], 0, '+inf') > 0 then
  redis.call('PERSIST', KEYS[1])
else
  local last = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
  if last then redis.call('PEXPIREAT', KEYS[1], -tonumber(last)) end
end
