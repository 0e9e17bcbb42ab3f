#!lua flags=no-writes,allow-oom
-- letters_find.lua: look for dead letters, newest first, in a bounded part of them.
-- The head of a letter is MessagePack: endpoint, id, type, reason, saga, error, 1 if that is the whole error. Letters of
-- older versions have none; they are returned, and whoever asked looks into them.
-- KEYS[1]  zset    dead letters: name -> when, ms
-- KEYS[2]  hash    name -> head
-- ARGV[1]  the last letter of the page before: when, ms; '' for the first page
-- ARGV[2]  its name
-- ARGV[3]  only those since, ms; '' for all
-- ARGV[4]  only those before, ms; '' for all
-- ARGV[5]  how many to return at most
-- ARGV[6]  how many to look at at most
-- ARGV[7]  endpoint, [8] type, [9] reason, [10] saga, [11] what the id begins with, [12] a part of the error in lower case;
--          '' for any
-- RETURNS  when the last one looked at was, ms, and its name; both '' where there are no more; the names; their reasons,
--          '' where there is no head

local when, name = ARGV[1], ARGV[2]
local since, before = tonumber(ARGV[3]), ARGV[4]
local wanted, most = tonumber(ARGV[5]), tonumber(ARGV[6])
local part = ARGV[12]

local rank, skipped = 0, nil
if before ~= '' then rank = redis.call('ZCOUNT', KEYS[1], before, '+inf') end
if when ~= '' then
  local after
  if tonumber(redis.call('ZSCORE', KEYS[1], name) or -1) == tonumber(when) then
    after = redis.call('ZREVRANK', KEYS[1], name) + 1
  else
    -- It has gone: of those of its moment, the greater names come before it.
    after, skipped = redis.call('ZCOUNT', KEYS[1], '(' .. when, '+inf'), tonumber(when)
  end
  rank = math.max(rank, after)
end

-- A head that is damaged is as good as none: who asked looks into the letter.
local function read(packed)
  local ok, head = pcall(cmsgpack.unpack, packed)
  if not ok or type(head) ~= 'table' then return nil end
  for i = 1, 6 do
    if type(head[i]) ~= 'string' then return nil end
  end
  return head
end

local function matches(head)
  local id, text = head[2], head[6]
  if ARGV[7] ~= '' and head[1] ~= ARGV[7] then return false end
  if ARGV[8] ~= '' and head[3] ~= ARGV[8] then return false end
  if ARGV[9] ~= '' and head[4] ~= ARGV[9] then return false end
  if ARGV[10] ~= '' and head[5] ~= ARGV[10] then return false end
  if ARGV[11] ~= '' and string.sub(id, 1, #ARGV[11]) ~= ARGV[11] then return false end
  return part == '' or head[7] ~= 1 or string.find(string.lower(text), part, 1, true) ~= nil
end

local names, reasons, looked = {}, {}, 0
local last_when, last_name = when, name
while #names < wanted and looked < most do
  local found = redis.call('ZREVRANGE', KEYS[1], rank, rank + math.min(500, most - looked) - 1, 'WITHSCORES')
  if #found == 0 then return {'', '', names, reasons} end
  local asked = {}
  for i = 1, #found, 2 do asked[#asked + 1] = found[i] end
  local heads = redis.call('HMGET', KEYS[2], unpack(asked))
  for i, head in ipairs(heads) do
    local score = tonumber(found[2 * i])
    if since and score < since then return {'', '', names, reasons} end
    if not (skipped == score and asked[i] >= name) then
      local known = head and read(head)
      if not known or matches(known) then
        names[#names + 1] = asked[i]
        reasons[#reasons + 1] = known and known[4] or ''
      end
    end
    rank, looked = rank + 1, looked + 1
    last_when, last_name = string.format('%.0f', score), asked[i]
    if #names >= wanted then break end
  end
end
return {last_when, last_name, names, reasons}
