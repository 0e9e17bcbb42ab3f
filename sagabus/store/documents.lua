#!lua
-- documents.lua: change documents of one group, all or nothing.
-- The rules are those of documents/write.py; change neither without the other.
-- KEYS[1]   string  what became of this very write, kept for a while: a lost reply has it sent again
-- KEYS[2..] hash    one a document. m: the meta (MessagePack: format, clock, live dots, when it ends or 0, fences;
--                   all but the first and fourth are flat arrays: name, number, name, number, ...); v<dot>: a value
-- ARGV[1]   the actor: of the primary that this runs on
-- ARGV[2]   how many siblings a document may have
-- ARGV[3]   for how long KEYS[1] is kept, ms
-- ARGV[4]   the fence: the lease, or '' for none        5 its token       6 when it ends, ms
-- ARGV      then for each document four values:
--   1 flags           X refuse unless the clock is what was seen, A has seen all there is, D delete
--   2 seen, flat      3 the value      4 ms until it ends, '' for never
-- RETURNS   0, and for each document its fields as they are now, flat, without the value just written; empty for one deleted;
--           or 1, and why the fence was refused;
--           or 2, and for each document false, its flat clock (MessagePack) where that is another than was seen, or 'full'

local actor, limit = ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local pack, unpack_one = cmsgpack.pack, cmsgpack.unpack

local function vector(flat)
  local result = {}
  for i = 1, #flat, 2 do result[flat[i]] = flat[i + 1] end
  return result
end

local function flatten(v)
  local result = {}
  for a, n in pairs(v) do
    result[#result + 1] = a
    result[#result + 1] = n
  end
  return result
end

local function dot_name(a, n)
  return a .. ':' .. string.format('%.0f', n)
end

local function raise(into, other)
  for a, n in pairs(other) do
    if (into[a] or 0) < n then into[a] = n end
  end
end

local function same(a, b)
  for k, n in pairs(a) do
    if b[k] ~= n then return false end
  end
  for k in pairs(b) do
    if not a[k] then return false end
  end
  return true
end

local done = redis.call('GET', KEYS[1])
if done then return unpack_one(done) end

-- What is asked for, and what is there.
local changes = {}
for i = 2, #KEYS do
  local at = 7 + 4 * (i - 2)
  local packed = redis.call('HGET', KEYS[i], 'm')
  local meta = packed and unpack_one(packed)
  if meta and meta[1] ~= 1 then
    return redis.error_reply('document format ' .. tostring(meta[1]) .. ' is not known to this version')
  end
  local flags = ARGV[at]
  changes[i - 1] = {
    key = KEYS[i], exact = flags:find('X', 1, true), all = flags:find('A', 1, true), delete = flags:find('D', 1, true),
    seen = vector(unpack_one(ARGV[at + 1])), value = ARGV[at + 2], ttl = tonumber(ARGV[at + 3]),
    clock = meta and vector(meta[2]) or {}, live = meta and meta[3] or {}, ends = meta and meta[4] or 0,
    fences = meta and vector(meta[5]) or {},
  }
end

local lease, token = ARGV[4], tonumber(ARGV[5])
if lease ~= '' then
  if now >= tonumber(ARGV[6]) then return {1, 'expired'} end
  for _, c in ipairs(changes) do
    if (c.fences[lease] or 0) > token then return {1, 'superseded'} end
  end
end

local refused, any = {}, false
for i, c in ipairs(changes) do
  refused[i] = false
  if c.exact and not same(c.clock, c.seen) then
    refused[i] = pack(flatten(c.clock))
  elseif not c.delete and not c.all then
    local unseen = 0
    for j = 1, #c.live, 2 do
      if (c.seen[c.live[j]] or 0) < c.live[j + 1] then unseen = unseen + 1 end
    end
    if unseen >= limit then refused[i] = 'full' end
  end
  any = any or refused[i]
end
if any then return {2, refused} end

-- From here on only writes, and nothing that could fail.
local reply = {0}
for i, c in ipairs(changes) do
  if c.delete then
    redis.call('DEL', c.key)
    reply[i + 1] = {}
  else
    local seen = c.all and c.clock or c.seen
    local first = next(c.clock) == nil and time[1] * 1000000 + time[2] or 1
    local counter = math.max((c.clock[actor] or 0) + 1, first)
    local live, gone = {}, {}
    for j = 1, #c.live, 2 do
      local a, n = c.live[j], c.live[j + 1]
      if (seen[a] or 0) >= n then
        gone[#gone + 1] = 'v' .. dot_name(a, n)
      else
        live[#live + 1] = a
        live[#live + 1] = n
      end
    end
    live[#live + 1] = actor
    live[#live + 1] = counter
    raise(c.clock, seen)
    c.clock[actor] = counter
    local ends = c.ttl and now + c.ttl or 0
    if #live > 2 then ends = (ends == 0 or c.ends == 0) and 0 or math.max(ends, c.ends) end
    if lease ~= '' then c.fences[lease] = token end
    if #gone > 0 then redis.call('HDEL', c.key, unpack(gone)) end
    local after = {'m', pack({1, flatten(c.clock), live, ends, flatten(c.fences)})}
    for j = 1, #live - 2, 2 do
      local field = 'v' .. dot_name(live[j], live[j + 1])
      after[#after + 1] = field
      after[#after + 1] = redis.call('HGET', c.key, field)
    end
    reply[i + 1] = after
    redis.call('HSET', c.key, 'm', after[2], 'v' .. dot_name(actor, counter), c.value)
    if ends > 0 then redis.call('PEXPIREAT', c.key, string.format('%.0f', ends)) else redis.call('PERSIST', c.key) end
  end
end
redis.call('SET', KEYS[1], pack(reply), 'PX', ARGV[3])
return reply
