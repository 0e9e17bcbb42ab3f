#!lua flags=no-writes,allow-oom
-- ripe.lua: say when the messages of one place are due that are due by now, soonest first, without handing any out.
-- KEYS[1]  zset    timers: message id -> when it is due, ms
-- ARGV[1]  how many at most
-- RETURNS  when each is due, ms

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', 0, ARGV[1])
local whens = {}
for i = 2, #found, 2 do
  whens[#whens + 1] = found[i]
end
return whens
