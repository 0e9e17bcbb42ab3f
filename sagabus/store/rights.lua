#!lua flags=no-writes,allow-oom
-- rights.lua: which of some commands the caller may not run. Nothing is run, so that nothing is half done.
-- KEYS[1]  any key of the namespace; need not be there
-- ARGV     commands, in lower case: `hset`, `xgroup|create`
-- RETURNS  those that are refused for this key; none where the server cannot tell

if not redis.acl_check_cmd then
  return {}
end
local refused = {}
for _, name in ipairs(ARGV) do
  local command, sub = string.match(name, '^([^|]+)|?(.*)$')
  local allowed
  if sub == '' then
    allowed = redis.acl_check_cmd(command, KEYS[1], KEYS[1], KEYS[1], KEYS[1])
  else
    allowed = redis.acl_check_cmd(command, sub, KEYS[1], KEYS[1], KEYS[1])
  end
  if not allowed then
    refused[#refused + 1] = name
  end
end
return refused
