#!lua
-- settle.lua: send parcels, run the store's commands, ack deliveries: all of it or nothing, on one server.
-- Refused whole, before it starts, where the server is out of memory.
-- KEYS[1]    hash     NS:topology           its field "version" must be what the sender knows
-- KEYS[2..]  streams  NS:q:{endpoint:p}     those that are written or acked, in the order that ARGV numbers them from 1;
--                                           then the keys of the store's commands
-- ARGV[1]    string   the topology version that the sender knows
-- ARGV[2]    integer  S, how many of KEYS are streams
-- ARGV[3..]  integer  S of them: the length from which that stream is full, -1 for never
-- then       integer  B, how many lists of bodies; and for each: the number of its stream, how many bodies, the bodies
-- then       integer  A, how many lists of acks; and for each: the number of its stream, how many ids, the ids
-- then       integer  C, how many commands of the store; and for each: how many arguments, the arguments
-- RETURNS    array    "done"; or "stale": the topology changed; or "full" and the numbers of the full streams
local call, argv, keys = redis.call, ARGV, KEYS
if (call('HGET', keys[1], 'version') or '') ~= argv[1] then
    return {'stale'}
end
local streams = tonumber(argv[2])
local full = {'full'}
for s = 1, streams do
    local limit = tonumber(argv[2 + s])
    if limit >= 0 and call('XLEN', keys[1 + s]) >= limit then
        full[#full + 1] = s
    end
end
if #full > 1 then
    return full
end

local i = 3 + streams
for _ = 1, tonumber(argv[i]) do
    local key, last = keys[1 + tonumber(argv[i + 1])], i + 2 + tonumber(argv[i + 2])
    for body = i + 3, last do
        call('XADD', key, '*', 'b', argv[body])
    end
    i = last
end

-- Acks stand before the commands in ARGV and run after them: an error half-way must leave the deliveries unacked.
i = i + 1
local acks = i + 1
for _ = 1, tonumber(argv[i]) do
    i = i + 2 + tonumber(argv[i + 2])
end
local c = i + 1
for _ = 1, tonumber(argv[c]) do
    local count = tonumber(argv[c + 1])
    call(unpack(argv, c + 2, c + 1 + count))
    c = c + 1 + count
end
while acks <= i do
    local key, count = keys[1 + tonumber(argv[acks])], tonumber(argv[acks + 1])
    call('XACK', key, 'workers', unpack(argv, acks + 2, acks + 1 + count))
    call('XDEL', key, unpack(argv, acks + 2, acks + 1 + count))
    acks = acks + 2 + count
end
return {'done'}
