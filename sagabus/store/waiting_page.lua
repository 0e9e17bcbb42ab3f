#!lua flags=no-writes,allow-oom
-- waiting_page.lua: return the messages of one place behind the last one seen, soonest first, and of one moment by id.
-- KEYS[1]  zset    timers: message id -> when it is handed out, ms
-- ARGV[1]  when the last one seen was handed out, ms; the first moment that counts, or '-inf', where none was seen
-- ARGV[2]  its id; '' where none was seen
-- ARGV[3]  where it has gone: how many to pass over, from its moment on
-- ARGV[4]  how many at most
-- RETURNS  for each its id, and when; from the moment of the last one seen on where that has gone

local found = ARGV[2] ~= '' and redis.call('ZSCORE', KEYS[1], ARGV[2])
if found and tonumber(found) == tonumber(ARGV[1]) then
  local first = redis.call('ZCARD', KEYS[1]) - redis.call('ZREVRANK', KEYS[1], ARGV[2])
  return redis.call('ZRANGE', KEYS[1], first, first + ARGV[4] - 1, 'WITHSCORES')
end
return redis.call('ZRANGE', KEYS[1], ARGV[1], '+inf', 'BYSCORE', 'LIMIT', ARGV[3], ARGV[4], 'WITHSCORES')
