#!lua flags=no-writes,allow-oom
-- index_page.lua: return some members of an index, in order: by score, and of one score by id.
-- KEYS[1]  zset    id -> score, see layout.py
-- ARGV[1]  the least score that counts, or '-inf'
-- ARGV[2]  of members with that score only those behind this id count; '' for all
-- ARGV[3]  how many at most
-- RETURNS  for each its id, and its score

local key, lowest, behind = KEYS[1], ARGV[1], ARGV[2]
if behind == '' then
  return redis.call('ZRANGE', key, lowest, '+inf', 'BYSCORE', 'LIMIT', 0, ARGV[3], 'WITHSCORES')
end

-- As the server orders members of one score; Lua's own `<` asks the locale.
local function is_behind(id)
  for i = 1, math.min(#id, #behind) do
    local a, b = id:byte(i), behind:byte(i)
    if a ~= b then return a > b end
  end
  return #id > #behind
end

local first
local score = redis.call('ZSCORE', key, behind)
if score and tonumber(score) == tonumber(lowest) then
  first = redis.call('ZCARD', key) - redis.call('ZREVRANK', key, behind)
else
  -- It has gone, or says something else by now: look among those of its score for where it was.
  first = redis.call('ZCOUNT', key, '-inf', '(' .. lowest)
  local last = redis.call('ZCOUNT', key, '-inf', lowest)
  while first < last do
    local middle = math.floor((first + last) / 2)
    if is_behind(redis.call('ZRANGE', key, middle, middle)[1]) then
      last = middle
    else
      first = middle + 1
    end
  end
end
return redis.call('ZRANGE', key, first, first + ARGV[3] - 1, 'WITHSCORES')
