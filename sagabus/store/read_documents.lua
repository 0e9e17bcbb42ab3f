#!lua flags=no-writes,allow-oom
-- read_documents.lua: read documents as they are at one moment.
-- KEYS      hash    one a document; fields as in documents.lua
-- RETURNS   for each the fields of its hash, flat, empty where there is no document; or, where it cannot be read, the cause

local reply = {}
for i, key in ipairs(KEYS) do
  local ok, fields = pcall(redis.call, 'HGETALL', key)
  reply[i] = ok and fields or (type(fields) == 'table' and fields.err or tostring(fields))
end
return reply
