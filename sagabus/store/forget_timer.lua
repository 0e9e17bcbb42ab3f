#!lua flags=allow-oom
-- forget_timer.lua: have a saga forget a timer that somebody else has cancelled.
-- KEYS[1]  hash    {saga}:r, the record; its field t<name> is the message id of a timer
-- ARGV[1]  the name of the timer
-- ARGV[2]  its message id
-- RETURNS  1 if the record knew it, else 0

local field = 't' .. ARGV[1]
if redis.call('HGET', KEYS[1], field) ~= ARGV[2] then return 0 end
return redis.call('HDEL', KEYS[1], field)
