#!lua flags=allow-oom
-- claim.lua: take over one delivery that its consumer left unacked, and say how often it was delivered.
-- One at a time, so that a message which kills its worker does not raise the counts of its neighbours.
-- KEYS      streams  NS:q:{endpoint:p}, all in one slot
-- ARGV[1]   string   the consumer that takes over
-- ARGV[2]   string   "own": what that very consumer left behind in an earlier life; "lost": what was delivered to it in
--                     this one and did not arrive, so that it counts as delivered no more often than before;
--                     "idle": what any consumer has not touched for ARGV[3]
-- ARGV[3]   integer  ms without a sign of life
-- ARGV[4..] string   a stream: the id after which to look, exclusive; "-" from the first
-- then      string   of "lost" only, what that consumer has in hand: the number of a stream from 1, a space, the id
-- RETURNS   array    number of the stream from 1, id, body, count, this time included; empty where there is none
local call = redis.call
local lost, in_hand = ARGV[2] == 'lost', {}
for i = 4 + #KEYS, #ARGV do
    in_hand[ARGV[i]] = true
end
for s, key in ipairs(KEYS) do
    local after = ARGV[3 + s]
    local found
    repeat
        if ARGV[2] ~= 'idle' then
            found = call('XPENDING', key, 'workers', after == '-' and after or '(' .. after, '+', 1, ARGV[1])[1]
        else
            found = call('XPENDING', key, 'workers', 'IDLE', ARGV[3], '-', '+', 1)[1]
        end
        if found then
            local id, count = found[1], lost and found[4] or found[4] + 1
            if not in_hand[s .. ' ' .. id] then
                local entry = call('XCLAIM', key, 'workers', ARGV[1], 0, id, 'RETRYCOUNT', count)[1]
                if entry and entry[2] then
                    return {s, id, entry[2][2], count}
                end
                -- The entry itself was deleted: nothing is left to deliver.
                call('XACK', key, 'workers', id)
            end
            after = id
        end
    until not found
end
return {}
