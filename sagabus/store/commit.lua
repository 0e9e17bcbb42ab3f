#!lua
-- commit.lua: store one version of each of some sagas, with everything that must be true together with it.
-- The rules, and their numbers, are those of memory.py; change neither without the other.
-- KEYS      four a saga:
--   hash    {saga}:r   the record. m: the meta (MessagePack: format, life, completed, clock, live versions with their
--                      contexts, pending merge id, when its life began, since when it has siblings, when it completed
--                      and expires, ms, or 0, how many timers it has; vectors are flat arrays actor, counter, ...);
--                      v<dot>: a state; p<dot>: the state it was computed from; s: who started it; t<name>: the id of a
--                      timer
--   zset    {saga}:i   consumed message id -> when, ms
--   hash    {saga}:o   outbox: consumed message id -> lines not yet dispatched
--   list    {saga}:h   history, oldest first: MessagePack arrays, see layout.py
--           before them, where messages go straight into queues on this server: a hash whose field "version" says
--           which queues there are, and S streams; then, where C is not 0:
--   set     {index}:names   the classes of sagas that are in the index
--           and two a class:
--   zset    {index}:age     saga id -> when its life began, ms; or, below zero, when its tombstone expires
--   zset    {index}:forked  saga id -> since when it has siblings
-- ARGV[1]   the actor: of the primary that this runs on
-- ARGV[2]   the version of the queues that the caller knows; '' where nothing goes straight into them
-- ARGV[3]   1 where every message that goes straight has its outbox line, too; else 0
-- ARGV[4]   S, how many of KEYS are streams; then S integers: the length from which that stream is full
-- ARGV      C, how many classes of sagas there are, where the index lies on this server; else 0; then C names of them
-- ARGV      for each saga a MessagePack array, and the strings that it names by their numbers, from 1; 0 is the empty one:
--   1 flags            B begins a life, L late, C completes, S must settle, N no version, D has a decision, P has a parent
--   2 life             3 context, flat      4 parents, flat
--   5 facts: state, a string's number       6 decision: state, likewise     7 parent's state, likewise
--   8 starter, likewise                     9 id for a MergeSagaState, should one be posted
--   10 timers          fired, cancelled and set by the facts, cancelled and set by the decision; nil for none
--   11 limits          siblings, history, dedupe window ms, retention ms; and, of a run under a lease, when that ends, ms
--   12 history: the tail of the entry, MessagePack, a string's number
--   13 decision: outbox lines for the last id, a string's number
--   14 which of the C classes it is of, or 0     15 its id, as the index has it
--   16 its message ids     17 for each of them the outbox lines of its facts, a string's number
--   18 for each of them what its facts send straight: the number of a stream, a body, a string's number, and so on; nil
--                      where that is not how they go
--   19 what the decision sends straight, likewise           20 how many strings there are
-- RETURNS   the actor; 1 if messages went straight into their queues, 2 if they are in the outbox; then for each saga:
--           outcome, reason, counter of the version written or 0, live versions, 1 if a merge was posted, for each id
--           false or its undispatched lines, and, where the index lies elsewhere and something changed for it: its two
--           scores, false for no change, the second below zero for none since then; or, where a record cannot be read:
--           'error', the cause; or, where the index cannot be written: 'refused', the cause. Where messages cannot go
--           straight, because the queues are others or one is full, and have no outbox lines: the actor and 0, and nothing
--           was done.

local call, pack, unpack_one = redis.call, cmsgpack.pack, cmsgpack.unpack
local actor = ARGV[1]
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Straight into the queues, or not at all: only if they are those that the caller knows, and none of them is full.
local streams = tonumber(ARGV[4])
local straight = ARGV[2] == '' or call('HGET', KEYS[1], 'version') == ARGV[2]
for s = 1, streams do
  local ok, length = pcall(call, 'XLEN', KEYS[1 + s])
  if not ok or length >= tonumber(ARGV[4 + s]) then straight = false end
end
if not straight and ARGV[3] == '0' then return {actor, 0} end

-- What a posted MergeSagaState leaves in the outbox.
local MERGE_LINE = 'M\n'

-- The index of each class, by its number: its name and keys.
local classes = {}
local classes_at = 5 + streams
local first_saga = ARGV[2] ~= '' and 2 + streams or 1
local names = KEYS[first_saga]
for c = 1, tonumber(ARGV[classes_at]) do
  local k = first_saga + 2 * c - 1
  classes[c] = {name = ARGV[classes_at + c], age = KEYS[k], forked = KEYS[k + 1], ages = {}}
end
if #classes > 0 then first_saga = first_saga + 1 + 2 * #classes end

-- A foreign value under a key of the index must be noticed before anything is written.
local fit = {}
local function check_index(command, key)
  if fit[key] then return end
  if not pcall(call, command, key) then error({refused = key}, 0) end
  fit[key] = true
end

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

-- Lua passes at most some thousand values to a call, and a write must not fail half-way.
local function in_parts(command, key, values)
  for i = 1, #values, 1000 do call(command, key, unpack(values, i, math.min(i + 999, #values))) end
end

local function again(reason, live, seen)
  return {'again', reason, 0, live, 0, seen}
end

local function refusal(meta, has, life, context)
  if not meta then
    if has.L or life ~= 1 or not has.B or next(context) then return 'clock' end
    return nil
  end
  local completed = meta[3] == 1
  if has.L then
    if completed or life ~= meta[2] then return nil end
    return 'life'
  end
  if completed then
    if not (has.B and life == meta[2] + 1) then return 'completed' end
  elseif life ~= meta[2] then
    return 'life'
  end
  local clock = vector(meta[4])
  for a, n in pairs(context) do
    if (clock[a] or 0) < n then return 'clock' end
  end
  return nil
end

local function commit(k, asked, at)
  local R, I, O, H = KEYS[k], KEYS[k + 1], KEYS[k + 2], KEYS[k + 3]
  local ids, lines, parcels = asked[16], asked[17], asked[18]
  local count = #ids
  local function text(number) return number > 0 and ARGV[at + number] or '' end
  local function deliver(way)
    for i = 1, #way, 2 do call('XADD', KEYS[1 + way[i]], '*', 'b', ARGV[at + way[i + 1]]) end
  end
  -- With the state of its one parent: the run may have changed nothing.
  local parents = asked[4]
  local packed, parent_state
  if #parents == 2 then
    packed, parent_state = unpack(call('HMGET', R, 'm', 'v' .. dot_name(parents[1], parents[2])))
  else
    packed = call('HGET', R, 'm')
  end
  local meta = packed and unpack_one(packed)
  if meta and meta[1] ~= 1 then error('record format ' .. tostring(meta[1]) .. ' is not known to this version', 0) end
  -- A script is no transaction: a foreign value under one of our keys must fail here, not between two writes.
  -- (History is written first.)
  local undispatched = call('HLEN', O)

  -- 1: ids first
  local seen, hits = {}, 0
  local scores = call('ZMSCORE', I, unpack(ids))
  for j = 1, count do
    seen[j] = false
    if meta and scores[j] then
      hits = hits + 1
      seen[j] = call('HGET', O, ids[j]) or ''
    end
  end
  local live = meta and meta[5] or {}
  if hits > 0 then
    if hits == count then return {'duplicate', '', 0, #live, 0, seen} end
    return again('consumed', #live, seen)
  end

  local has = {}
  for flag in asked[1]:gmatch('.') do has[flag] = true end
  local life, limits = asked[2], asked[11]
  local context = vector(asked[3])

  -- The lease under which the run was made is over: somebody else may be at work
  if limits[5] and now >= limits[5] then return again('fence', #live, seen) end

  -- 2, 3, 7: a saga that is not what the run read
  local reason = refusal(meta, has, life, context)
  if reason then return again(reason, #live, seen) end
  local clock = meta and vector(meta[4]) or {}
  local pending = meta and meta[6] or ''
  local completed = (meta and meta[3] == 1) and 1 or 0
  local revived = completed == 1 and not has.L
  if revived then
    live, completed = {}, 0
  end

  local outcome, counter, posted, dropped, ended = 'late', 0, false, false, false
  local set, unset = {}, {}
  local decided = false
  if not has.L then
    -- 5: a merge is valid while every version it merged is live
    if #parents > 2 then
      local is_live = {}
      for _, version in ipairs(live) do is_live[dot_name(version[1], version[2])] = true end
      for i = 1, #parents, 2 do
        if not is_live[dot_name(parents[i], parents[i + 1])] then return again('merged', #live, seen) end
      end
    end
    -- 4: does the run settle the saga
    local settles = true
    for _, version in ipairs(live) do
      if (context[version[1]] or 0) < version[2] then settles = false end
    end
    if not settles and not has.N then
      if has.S then return again('settle', #live, seen) end
      if #parents <= 2 and #live >= limits[1] then return again('siblings', #live, seen) end
    end
    -- 7: what writes no version settles nothing, so it completes only what is settled
    if has.N and has.C and not (settles and #live == 1) then return again('settle', #live, seen) end
    outcome = (settles or has.N) and 'stored' or 'forked'
    decided = settles and has.D
    dropped = outcome == 'forked' and has.D or false
    ended = settles and has.C or false

    -- 8: the same bytes, from the version itself, make no new one
    local state = text(decided and asked[6] or asked[5])
    local write = not has.N
    if write and #live == 1 and #parents == 2 and parents[1] == live[1][1] and parents[2] == live[1][2] then
      write = parent_state ~= state
    end
    if write then
      for a, n in pairs(context) do
        if (clock[a] or 0) < n then clock[a] = n end
      end
      local kept = {}
      for _, version in ipairs(live) do
        if (context[version[1]] or 0) >= version[2] then
          local name = dot_name(version[1], version[2])
          unset[#unset + 1] = 'v' .. name
          unset[#unset + 1] = 'p' .. name
        else
          kept[#kept + 1] = version
        end
      end
      counter = (clock[actor] or 0) + 1
      clock[actor] = counter
      kept[#kept + 1] = {actor, counter, flatten(context)}
      live = kept
      set[#set + 1] = 'v' .. dot_name(actor, counter)
      set[#set + 1] = state
      if has.P then
        set[#set + 1] = 'p' .. dot_name(actor, counter)
        set[#set + 1] = text(asked[7])
      end
    end

    -- 6: one MergeSagaState under way while there are siblings
    for j = 1, count do
      if ids[j] == pending then pending = '' end
    end
    if ended then
      completed, pending = 1, ''
    end
    if #live > 1 and pending == '' then
      pending, posted = asked[9], true
    end
  end

  -- What the index is to say from now on. What an older sagabus has stored comes into it with its next commit.
  local started, since = meta and not revived and meta[7] or 0, meta and not revived and meta[8] or 0
  local ended_at, expires = meta and not revived and meta[9] or 0, meta and not revived and meta[10] or 0
  local age, fork, unknown = false, false, started == 0
  -- How many timers the record has; nil where an older sagabus has not counted them.
  local timed = 0
  if meta and not revived then timed = meta[11] end
  if not has.L then
    if unknown then
      started = now
      local oldest = meta and not revived and call('LINDEX', H, 0)
      if oldest then
        local ok, _, _, _, _, at_ms = pcall(cmsgpack.unpack_limit, oldest:sub(2), 4)
        if ok and type(at_ms) == 'number' then started = at_ms end
      end
      age = started
    end
    if ended then
      ended_at, expires = now, now + limits[4]
      age = -expires
    end
    if #live > 1 then
      if since == 0 then since, fork = now, now end
    elseif since ~= 0 or (meta and #meta[5] > 1) then
      since, fork = 0, -now
    end
  end
  local class = classes[asked[14]]
  local changed = age or fork
  if class and changed then
    if age then check_index('ZCARD', class.age) end
    if fork then check_index('ZCARD', class.forked) end
    if unknown then check_index('SCARD', names) end
  end

  -- A MergeSagaState may be handled under an id that was consumed before: what that left undispatched stays.
  local merging = meta and meta[6] or ''
  local unsent = merging ~= '' and call('HGET', O, merging) or ''

  -- From here on only writes, and nothing that could fail: every key was read above.
  local entry = '\151' .. pack(counter > 0 and actor or '', counter, outcome, now, ended, dropped) .. text(asked[12])
  local entries = call('RPUSH', H, entry)
  if entries > limits[2] then call('LTRIM', H, -limits[2], -1) end
  local outbox = {}
  for j = 1, count do
    local kept = ''
    if straight and parcels[j] then deliver(parcels[j]) else kept = text(lines[j]) end
    if j == count then
      if decided then
        if straight and asked[19] then deliver(asked[19]) else kept = kept .. text(asked[13]) end
      end
      if posted then kept = kept .. MERGE_LINE end
    end
    if ids[j] == merging then kept = unsent .. kept end
    if kept ~= '' then
      outbox[#outbox + 1] = ids[j]
      outbox[#outbox + 1] = kept
    end
  end
  in_parts('HSET', O, outbox)

  if revived then
    local fields = call('HKEYS', R)
    for _, name in ipairs(fields) do
      if name:find('^[vpt]') then unset[#unset + 1] = name end
    end
    for _, key in ipairs({R, I, O, H}) do call('PERSIST', key) end
  end
  if (revived or not meta) and asked[8] > 0 then
    set[#set + 1] = 's'
    set[#set + 1] = text(asked[8])
  end
  in_parts('HDEL', R, unset)

  local timers = asked[10]
  if not has.L and timers then
    local change = 0
    for i = 1, #timers[1], 2 do
      if call('HGET', R, 't' .. timers[1][i]) == timers[1][i + 1] then
        change = change - call('HDEL', R, 't' .. timers[1][i])
      end
    end
    for half = 2, decided and 4 or 2, 2 do
      for _, name in ipairs(timers[half]) do change = change - call('HDEL', R, 't' .. name) end
      for i = 1, #timers[half + 1], 2 do
        change = change + call('HSET', R, 't' .. timers[half + 1][i], timers[half + 1][i + 1])
      end
    end
    timed = timed and timed + change
  end
  if ended and timed ~= 0 then
    for _, name in ipairs(call('HKEYS', R)) do
      if name:find('^t') then call('HDEL', R, name) end
    end
    timed = 0
  end
  if not has.L then
    set[#set + 1] = 'm'
    set[#set + 1] = pack({1, life, completed, flatten(clock), live, pending, started, since, ended_at, expires, timed})
  end
  in_parts('HSET', R, set)

  -- In its first life a saga has consumed nothing before that began.
  local aged = meta and not (meta[2] == 1 and not revived and started > now - limits[3])
  local old = aged and call('ZRANGEBYSCORE', I, '-inf', now - limits[3]) or {}
  for _, id in ipairs(old) do
    if call('HEXISTS', O, id) == 0 then call('ZREM', I, id) end
  end
  local consumed = {}
  for j = 1, count do
    consumed[2 * j - 1] = now
    consumed[2 * j] = ids[j]
  end
  in_parts('ZADD', I, consumed)
  -- One of this id may have been handled already, with nothing to merge: a failover lost the fork that posted it, not
  -- the message. It must count for the fork that comes again.
  if posted then call('ZREM', I, pending) end

  if ended then
    for _, key in ipairs({R, I, H}) do call('PEXPIRE', key, limits[4]) end
    if undispatched > 0 or #outbox > 0 then call('PEXPIRE', O, limits[4]) end
  elseif completed == 1 then
    -- What may be there again without an expiry.
    local fresh = {}
    if #old > 0 then fresh[#fresh + 1] = I end
    if #outbox > 0 then fresh[#fresh + 1] = O end
    if entries == 1 then fresh[#fresh + 1] = H end
    local ttl = #fresh > 0 and call('PTTL', R) or -1
    -- Below zero it has none: a tombstone that was restored from a copy without its expiry must not end here.
    for _, key in ipairs(ttl < 0 and {} or fresh) do call('PEXPIRE', key, ttl) end
  end
  if class and changed then
    local id = asked[15]
    if age then
      class.ages[#class.ages + 1] = age
      class.ages[#class.ages + 1] = id
      class.begins, class.ends, class.new = class.begins or age > 0, class.ends or age < 0, class.new or unknown
    end
    if fork then
      if fork > 0 then call('ZADD', class.forked, fork, id) else call('ZREM', class.forked, id) end
    end
  end
  return {outcome, '', counter, #live, posted and 1 or 0, seen, not class and changed and {age, fork} or nil}
end

local function failure(cause)
  if type(cause) ~= 'table' then return {'error', tostring(cause)} end
  if cause.refused then return {'refused', cause.refused} end
  return {'error', cause.err}
end

local reply = {actor, straight and 1 or 2}
local at = classes_at + 1 + #classes
for k = first_saga, #KEYS, 4 do
  local asked = unpack_one(ARGV[at])
  local ok, result = pcall(commit, k, asked, at)
  reply[#reply + 1] = ok and result or failure(result)
  at = at + 1 + asked[20]
end
for _, class in ipairs(classes) do
  in_parts('ZADD', class.age, class.ages)
  if class.new then call('SADD', names, class.name) end
  if class.begins then call('PERSIST', class.age) end
  -- Where all of a class have completed, their index ends with the last tombstone.
  if class.ends and call('ZCOUNT', class.age, 0, '+inf') == 0 then
    call('PEXPIREAT', class.age, -tonumber(call('ZRANGE', class.age, 0, 0, 'WITHSCORES')[2]))
  end
end
return reply
