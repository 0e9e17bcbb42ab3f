#!lua
-- append.lua: send parcels to one stream of a cluster, all or none.
-- KEYS[1]   stream   NS:q:{endpoint:p}
-- ARGV      bytes    the bodies, in order
-- RETURNS   integer  how long the stream is now
for i = 1, #ARGV do
    redis.call('XADD', KEYS[1], '*', 'b', ARGV[i])
end
return redis.call('XLEN', KEYS[1])
