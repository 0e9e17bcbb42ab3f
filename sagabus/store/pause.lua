#!lua flags=allow-oom
-- pause.lua: pause an endpoint, or resume it.
-- KEYS[1]  hash    endpoint -> why it is paused: MessagePack
-- ARGV[1]  'pause' or 'resume'
-- ARGV[2]  the endpoint
-- ARGV[3]  to pause: by whom
-- ARGV[4]  to pause: why
-- RETURNS  what stands there now, or, resumed, stood there until now; nil where it was not paused

local known = redis.call('HGET', KEYS[1], ARGV[2])
if ARGV[1] == 'resume' then
  redis.call('HDEL', KEYS[1], ARGV[2])
  return known
end
if known then return known end
local time = redis.call('TIME')
local pause = cmsgpack.pack({ARGV[3], ARGV[4], time[1] * 1000 + math.floor(time[2] / 1000)})
redis.call('HSET', KEYS[1], ARGV[2], pause)
return pause
