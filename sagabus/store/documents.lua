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
-- ARGV[7]   for how long the tokens of other leases are remembered, ms
-- ARGV      then for each document four values:
--   1 flags           X refuse unless the clock is what was seen, A has seen all there is, D delete
--   2 seen, flat      3 the value      4 ms until it ends, '' for never
-- RETURNS   0, and for each document its fields as they are now, flat, without the value just written; empty for one deleted;
--           or 1, and why the fence was refused;
--           or 2, and for each document false, its flat clock (MessagePack) where that is another than was seen, or 'full';
--           or 3, and which document cannot be read (from 0), and the cause

local FORMAT = 1
local actor, limit = ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local pack, unpack_one = cmsgpack.pack, cmsgpack.unpack

local function vector(flat)
  local result = {}
  for i = 1, #flat, 2 do
    assert(type(flat[i]) == 'string' and type(flat[i + 1]) == 'number', 'no version vector')
    result[flat[i]] = flat[i + 1]
  end
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

local function field_of(a, n)
  return 'v' .. a .. ':' .. string.format('%.0f', n)
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

-- What is stored under a key, or why it may not be touched; raises an error where it cannot be read.
local function read(key)
  local packed = redis.call('HGET', key, 'm')
  if not packed then
    assert(redis.call('EXISTS', key) == 0, 'it has no meta')
    return {clock = {}, live = {}, ends = 0, fences = {}}
  end
  local meta = unpack_one(packed)
  assert(type(meta) == 'table' and type(meta[1]) == 'number', 'no meta')
  if meta[1] > FORMAT then
    local cause = 'its format %d is newer than this code, which knows %d: deploy the newer code here'
    return {newer = string.format(cause, meta[1], FORMAT)}
  end
  assert(#meta[3] > 0 and vector(meta[3]), 'it has no version')
  return {clock = vector(meta[2]), live = meta[3], ends = meta[4] + 0, fences = vector(meta[5])}
end

-- Sort the live versions of a document into those that the writer has not seen, which stay with their values, and those that go.
local function sift(key, found, seen)
  local kept, values, gone = {}, {}, {}
  for j = 1, #found.live, 2 do
    local a, n = found.live[j], found.live[j + 1]
    local field = field_of(a, n)
    if (seen[a] or 0) >= n then
      gone[#gone + 1] = field
    else
      local value = redis.call('HGET', key, field)
      assert(value, 'the value of ' .. field .. ' is missing')
      kept[#kept + 1] = a
      kept[#kept + 1] = n
      values[#values + 1] = field
      values[#values + 1] = value
    end
  end
  return {kept = kept, values = values, gone = gone}
end

local done = redis.call('GET', KEYS[1])
if done then return unpack_one(done) end

-- What is asked for, and what is there.
local changes = {}
for i = 2, #KEYS do
  local at = 8 + 4 * (i - 2)
  local flags, key = ARGV[at], KEYS[i]
  local c = {
    key = key, exact = flags:find('X', 1, true), all = flags:find('A', 1, true), delete = flags:find('D', 1, true),
    value = ARGV[at + 2], ttl = tonumber(ARGV[at + 3]),
  }
  local ok, found = pcall(read, key)
  if ok and found.newer then return {3, i - 2, found.newer} end
  local sifted
  if ok then
    c.found = found
    c.seen = c.all and found.clock or vector(unpack_one(ARGV[at + 1]))
    ok, sifted = pcall(sift, key, found, c.seen)
  elseif c.all then
    -- Who overwrites whatever there is also mends what cannot be read.
    c.broken, ok, c.seen = true, true, {}
    c.found, sifted = {clock = {}, live = {}, ends = 0, fences = {}}, {kept = {}, values = {}, gone = {}}
  else
    sifted = found
  end
  if not ok then return {3, i - 2, type(sifted) == 'table' and sifted.err or tostring(sifted)} end
  c.kept, c.values, c.gone = sifted.kept, sifted.values, sifted.gone
  changes[i - 1] = c
end

local lease, token = ARGV[4], tonumber(ARGV[5])
if lease ~= '' then
  if now >= tonumber(ARGV[6]) then return {1, 'expired'} end
  for _, c in ipairs(changes) do
    if (c.found.fences[lease] or 0) > token then return {1, 'superseded'} end
  end
end

local refused, any = {}, false
for i, c in ipairs(changes) do
  refused[i] = false
  if c.exact and not same(c.found.clock, c.seen) then
    refused[i] = pack(flatten(c.found.clock))
  elseif not c.delete and #c.kept / 2 >= limit then
    refused[i] = 'full'
  end
  any = any or refused[i]
end
if any then return {2, refused} end

-- From here on only writes, and nothing that could fail.
local reply = {0}
for i, c in ipairs(changes) do
  if c.delete or c.broken then redis.call('DEL', c.key) end
  if c.delete then
    reply[i + 1] = {}
  else
    local clock, fences, live = c.found.clock, c.found.fences, c.kept
    local first = next(clock) == nil and time[1] * 1000000 + time[2] or 1
    local counter = math.max((clock[actor] or 0) + 1, first)
    raise(clock, c.seen)
    clock[actor] = counter
    live[#live + 1] = actor
    live[#live + 1] = counter
    local ends = c.ttl and now + c.ttl or 0
    if #live > 2 then ends = (ends == 0 or c.found.ends == 0) and 0 or math.max(ends, c.found.ends) end
    if lease ~= '' then
      local recent = {[lease] = token}
      for name, number in pairs(fences) do
        if name ~= lease and number >= (now - tonumber(ARGV[7])) * 1000 then recent[name] = number end
      end
      fences = recent
    end
    if #c.gone > 0 then redis.call('HDEL', c.key, unpack(c.gone)) end
    local meta = pack({FORMAT, flatten(clock), live, ends, flatten(fences)})
    redis.call('HSET', c.key, 'm', meta, field_of(actor, counter), c.value)
    if ends > 0 then redis.call('PEXPIREAT', c.key, string.format('%.0f', ends)) else redis.call('PERSIST', c.key) end
    reply[i + 1] = {'m', meta, unpack(c.values)}
  end
end
redis.call('SET', KEYS[1], pack(reply), 'PX', ARGV[3])
return reply
