#!lua
-- lease.lua: grant, renew or end a lease.
-- The rules are those of leases/grant.py; change neither without the other.
-- KEYS[1]  hash    the lease: holder, token, ends (when the grant ends or ended, ms)
-- ARGV[1]  'grant', 'renew' or 'release'
-- ARGV[2]  who asks
-- ARGV[3]  to renew and release: the token of the grant
-- ARGV[4]  to grant and renew: for how long from now, ms; to release: when the grant was to end, ms, as its holder knows
-- ARGV[5]  for how long the token is remembered after that, ms
-- RETURNS  the last grant: holder, token, ends; then now, ms; or only now where a renewal or a release came too late

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local action, argument = ARGV[1], tonumber(ARGV[4])
-- What is damaged is as good as never granted: the token, made from the time, outgrows what was.
local ok, known = pcall(redis.call, 'HMGET', KEYS[1], 'holder', 'token', 'ends')
if not ok then
  known = {}
  if action == 'grant' then redis.call('DEL', KEYS[1]) end
end
local holder, token, ends = known[1], tonumber(known[2]), tonumber(known[3])
if not (holder and token and ends) then
  holder, token, ends = false, 0, 0
end
local mine = holder == ARGV[2] and token == tonumber(ARGV[3])

local function keep(who, number, until_ms)
  redis.call('HSET', KEYS[1], 'holder', who, 'token', string.format('%.0f', number), 'ends', string.format('%.0f', until_ms))
  redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', math.max(until_ms, now) + tonumber(ARGV[5])))
  return {who, number, until_ms, now}
end

if action == 'grant' then
  if ends > now then return {holder, token, ends, now} end
  -- The time, in microseconds, also keeps tokens growing where a failover has lost the last grant, or nobody remembers it.
  return keep(ARGV[2], math.max(time[1] * 1000000 + time[2], holder and token + 1 or 0), now + argument)
end
if mine and ends > now then return keep(holder, token, action == 'renew' and now + argument or now) end
-- Where it ended sooner than its holder knew, it was released before, and the reply got lost.
if mine and action == 'release' and ends < argument then return {holder, token, ends, now} end
return {now}
