#!lua flags=allow-oom
-- letters_mark.lua: mark dead letters that are about to be sent again.
-- KEYS[1]  zset    dead letters: name -> when, ms
-- KEYS[2]  hash    name -> mark
-- ARGV[1]  the mark; '' takes it away
-- ARGV[2..]  for each letter: its name, and when it was given up, ms
-- RETURNS  for each 1 if that letter is there, else 0

local answers = {}
for i = 2, #ARGV, 2 do
  local there = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i]) or -1) == tonumber(ARGV[i + 1])
  if there and ARGV[1] ~= '' then
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[1])
  elseif there then
    redis.call('HDEL', KEYS[2], ARGV[i])
  end
  answers[#answers + 1] = there and 1 or 0
end
return answers
