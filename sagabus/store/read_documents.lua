#!lua flags=no-writes,allow-oom
-- read_documents.lua: read documents as they are at one moment.
-- KEYS      hash    one a document; fields as in documents.lua
-- RETURNS   for each the fields of its hash, flat; empty where there is no document

local reply = {}
for i, key in ipairs(KEYS) do reply[i] = redis.call('HGETALL', key) end
return reply
