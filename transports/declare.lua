#!lua
-- declare.lua: change the topology, unless somebody else did meanwhile.
-- KEYS[1]   hash     NS:topology   "version" -> token, "@" .. endpoint -> its declaration, JSON
-- KEYS[2..] streams  those that the endpoint loses, which must be empty; on one server only
-- ARGV[1]   string   the version that the caller read; "" where there was none
-- ARGV[2]   string   the next version, never used before
-- ARGV[3]   string   the endpoint
-- ARGV[4]   string   its declaration, JSON
-- RETURNS   string   "done"; or "stale": read again; or "busy": a stream holds messages
local call = redis.call
if (call('HGET', KEYS[1], 'version') or '') ~= ARGV[1] then
    return 'stale'
end
for k = 2, #KEYS do
    if call('EXISTS', KEYS[k]) == 1 and call('XLEN', KEYS[k]) > 0 then
        return 'busy'
    end
end
for k = 2, #KEYS do
    call('DEL', KEYS[k])
end
call('HSET', KEYS[1], 'version', ARGV[2], '@' .. ARGV[3], ARGV[4])
return 'done'
