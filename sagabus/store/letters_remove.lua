#!lua flags=allow-oom
-- letters_remove.lua: remove dead letters, and write down who wanted that.
-- It may run twice where its reply is lost: a line that is there already says that its letter was dealt with.
-- KEYS[1]  zset    dead letters: name -> when, ms
-- KEYS[2]  hash    name -> letter
-- KEYS[3]  hash    name -> head
-- KEYS[4]  hash    name -> mark of those that are being sent again
-- KEYS[5]  zset    audit trail: line -> when, ms
-- ARGV[1]  how many lines to keep
-- ARGV[2..]  for each letter: its name; when it was given up, ms; the mark that it must bear, '' for any; its line
-- RETURNS  for each 1 if the letter went, else 0

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local answers = {}
for i = 2, #ARGV, 4 do
  local name, mark, line = ARGV[i], ARGV[i + 2], ARGV[i + 3]
  local there = tonumber(redis.call('ZSCORE', KEYS[1], name) or -1) == tonumber(ARGV[i + 1])
  local noted = redis.call('ZSCORE', KEYS[5], line)
  local goes = there and (mark == '' or redis.call('HGET', KEYS[4], name) == mark)
  if goes then
    redis.call('ZREM', KEYS[1], name)
    for k = 2, 4 do redis.call('HDEL', KEYS[k], name) end
  end
  if (goes or mark ~= '') and not noted then redis.call('ZADD', KEYS[5], now, line) end
  answers[#answers + 1] = (goes or (noted and not there)) and 1 or 0
end
redis.call('ZREMRANGEBYRANK', KEYS[5], 0, -1 - tonumber(ARGV[1]))
return answers
