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
    local limit, length = tonumber(argv[2 + s]), call('XLEN', keys[1 + s])
    if limit >= 0 and length >= limit then
        full[#full + 1] = s
    end
end
if #full > 1 then
    return full
end

-- Where everything begins: the bodies, the acks, the commands.
local bodies = 3 + streams
local acks = bodies + 1
for _ = 1, tonumber(argv[bodies]) do
    acks = acks + 2 + tonumber(argv[acks + 1])
end
local commands = acks + 1
for _ = 1, tonumber(argv[acks]) do
    commands = commands + 2 + tonumber(argv[commands + 1])
end

-- A foreign value under a key of the store must be met here, not between two writes.
local kinds = {HSET = 'hash', HDEL = 'hash', ZADD = 'zset', ZREM = 'zset'}
local seen, c = {}, commands + 1
for _ = 1, tonumber(argv[commands]) do
    local kind, key = kinds[argv[c + 1]], argv[c + 2]
    if kind and not seen[key] then
        local found = call('TYPE', key)['ok']
        if found ~= 'none' and found ~= kind then
            return redis.error_reply('WRONGTYPE ' .. key .. ' is a ' .. found .. ', not a ' .. kind)
        end
        seen[key] = true
    end
    c = c + 1 + tonumber(argv[c])
end

local i = bodies + 1
for _ = 1, tonumber(argv[bodies]) do
    local key, last = keys[1 + tonumber(argv[i])], i + 1 + tonumber(argv[i + 1])
    for body = i + 2, last do
        call('XADD', key, '*', 'b', argv[body])
    end
    i = last + 1
end
-- Before the acks: an error half-way must leave the deliveries unacked.
c = commands + 1
for _ = 1, tonumber(argv[commands]) do
    local count = tonumber(argv[c])
    call(unpack(argv, c + 1, c + count))
    c = c + 1 + count
end
i = acks + 1
for _ = 1, tonumber(argv[acks]) do
    local key, count = keys[1 + tonumber(argv[i])], tonumber(argv[i + 1])
    call('XACK', key, 'workers', unpack(argv, i + 2, i + 1 + count))
    call('XDEL', key, unpack(argv, i + 2, i + 1 + count))
    i = i + 2 + count
end
return {'done'}
