#!lua flags=allow-oom
-- tidy.lua: forget the consumers of one stream that are gone and left nothing behind.
-- KEYS[1]   stream   NS:q:{endpoint:p}
-- ARGV[1]   integer  ms without a sign of life
-- RETURNS   integer  how many were forgotten
local forgotten = 0
for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], 'workers')) do
    local consumer = {}
    for i = 1, #fields, 2 do
        consumer[fields[i]] = fields[i + 1]
    end
    if consumer.pending == 0 and consumer.idle > tonumber(ARGV[1]) then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], 'workers', consumer.name)
        forgotten = forgotten + 1
    end
end
return forgotten
