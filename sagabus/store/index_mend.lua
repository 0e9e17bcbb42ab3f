#!lua
-- index_mend.lua: have members of an index say what is true, where they still say what was seen.
-- KEYS[1]  zset    id -> score, see layout.py
-- ARGV     for each its id, the score that was seen and the one it is to have; '' for none
-- RETURNS  how many did

local mended = 0
for i = 1, #ARGV, 3 do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if score and tonumber(score) == tonumber(ARGV[i + 1]) or not score and ARGV[i + 1] == '' then
    if ARGV[i + 2] == '' then
      redis.call('ZREM', KEYS[1], ARGV[i])
    else
      redis.call('ZADD', KEYS[1], ARGV[i + 2], ARGV[i])
    end
    mended = mended + 1
  end
end
-- Where all of a class have completed, their index ends with the last tombstone.
if redis.call('ZCOUNT', KEYS[1], 0, '+inf') > 0 then
  redis.call('PERSIST', KEYS[1])
else
  local last = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
  if last then redis.call('PEXPIREAT', KEYS[1], -tonumber(last)) end
end
return mended
