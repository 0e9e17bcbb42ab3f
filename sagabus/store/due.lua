#!lua
-- due.lua: hand out messages whose time has come, and keep them from others for a while.
-- KEYS[1]  zset    timers: message id -> when it is due, ms
-- KEYS[2]  hash    message id -> the message, MessagePack
-- ARGV[1]  how many at most
-- ARGV[2]  for how long nobody else gets them, ms
-- RETURNS  for each its id, and the message; false where that is missing

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
local messages = {}
for _, id in ipairs(ids) do
  messages[#messages + 1] = id
  messages[#messages + 1] = redis.call('HGET', KEYS[2], id)
  redis.call('ZADD', KEYS[1], now + ARGV[2], id)
end
return messages
