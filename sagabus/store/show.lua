#!lua flags=allow-oom
-- show.lua: note that a worker is there, forget those that are gone, and say what is paused.
-- KEYS[1]  hash    worker -> its card
-- KEYS[2]  zset    worker -> when it showed that, ms
-- KEYS[3]  hash    endpoint -> why it is paused
-- ARGV[1]  the worker
-- ARGV[2]  its card; '' where it leaves
-- ARGV[3]  after how long without a sign a worker is forgotten, ms
-- RETURNS  the endpoints that are paused

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local gone = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now - tonumber(ARGV[3])), 'LIMIT', 0, 500)
if ARGV[2] == '' then
  gone[#gone + 1] = ARGV[1]
end
if #gone > 0 then
  redis.call('HDEL', KEYS[1], unpack(gone))
  redis.call('ZREM', KEYS[2], unpack(gone))
end
if ARGV[2] ~= '' then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  redis.call('ZADD', KEYS[2], string.format('%.0f', now), ARGV[1])
  -- Where no worker shows any more, nobody removes the cards.
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
return redis.call('HKEYS', KEYS[3])
