#!lua flags=allow-oom
-- letters_expire.lua: remove dead letters, and lines of the audit trail, that are older than they are kept.
-- KEYS[1]  zset    dead letters: name -> when, ms
-- KEYS[2]  hash    name -> letter
-- KEYS[3]  hash    name -> head
-- KEYS[4]  hash    name -> mark of those that are being sent again
-- KEYS[5]  zset    audit trail: line -> when, ms
-- ARGV[1]  for how long they are kept, ms
-- ARGV[2]  how many letters, and how many lines, to remove at most; up to 1,000
-- RETURNS  how many letters went

local time = redis.call('TIME')
local horizon = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[1]))
local names = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', horizon, 'LIMIT', 0, ARGV[2])
if #names > 0 then
  redis.call('ZREM', KEYS[1], unpack(names))
  for k = 2, 4 do redis.call('HDEL', KEYS[k], unpack(names)) end
end
local lines = redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', horizon, 'LIMIT', 0, ARGV[2])
if #lines > 0 then redis.call('ZREM', KEYS[5], unpack(lines)) end
return #names
