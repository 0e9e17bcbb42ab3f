#!lua flags=allow-oom
-- take_timer.lua: forget a message that waits, or have it be due now.
-- It may run twice where its reply is lost: whoever has taken a message leaves a token in its place until it knows.
-- KEYS[1]  zset    timers: message id -> when it is handed out, ms
-- KEYS[2]  hash    message id -> the message, MessagePack
-- ARGV[1]  the message id
-- ARGV[2]  when it is due, ms: where that is not when it is handed out next, somebody is sending it
-- ARGV[3]  'take'; 'taken', which clears the token away; or 'hurry'
-- ARGV[4]  the token
-- RETURNS  1 if it was as expected, and to be taken not due yet; else 0, and nothing is changed

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local at = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or -1)
if ARGV[3] ~= 'hurry' and redis.call('HGET', KEYS[2], ARGV[1]) == ARGV[4] then
  if ARGV[3] == 'taken' then redis.call('HDEL', KEYS[2], ARGV[1]) end
  return 1
end
if ARGV[3] == 'taken' or at ~= tonumber(ARGV[2]) then return 0 end
if ARGV[3] == 'hurry' then
  if at > now then redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1]) end
  return 1
end
if at <= now then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[4])
return 1
