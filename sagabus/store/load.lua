#!lua flags=no-writes,allow-oom
-- load.lua: read sagas, and which of some message ids they have consumed. The same moment for all of them.
-- KEYS      three a saga:
--   hash    {saga}:r   the record; fields as in commit.lua
--   zset    {saga}:i   consumed message id -> when, ms
--   hash    {saga}:o   outbox: consumed message id -> lines not yet dispatched
-- ARGV      for each saga: the number of ids, then the ids
-- RETURNS   now in ms; then for each saga two values: the fields of its record (flat), and
--           for each of its ids false, or the outbox lines it left (an empty string where there are none);
--           or, where it cannot be read: false, and the cause

local function load(k, at, count)
  local fields, seen = redis.call('HGETALL', KEYS[k]), {}
  if count > 0 and #fields > 0 then
    local ids = {unpack(ARGV, at + 1, at + count)}
    local scores = redis.call('ZMSCORE', KEYS[k + 1], unpack(ids))
    for j = 1, count do
      seen[j] = scores[j] and (redis.call('HGET', KEYS[k + 2], ids[j]) or '')
    end
  end
  return {fields, seen}
end

local time = redis.call('TIME')
local reply = {time[1] * 1000 + math.floor(time[2] / 1000)}
local at = 1
for k = 1, #KEYS, 3 do
  local count = tonumber(ARGV[at])
  local ok, result = pcall(load, k, at, count)
  reply[#reply + 1] = ok and result[1]
  reply[#reply + 1] = ok and result[2] or (type(result) == 'table' and result.err or tostring(result))
  at = at + 1 + count
end
return reply
