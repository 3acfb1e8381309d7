#!lua
-- Begin a new epoch of an execution of which Redis has lost updates, and notify its readers.
-- KEYS  state hash
-- ARGV  epoch with the loss, new epoch, channel, channel of all executions, execution id
-- Returns 1 if the epoch was renewed; 0 if it was another already.
local found = redis.call('HMGET', KEYS[1], 'e', 'h')
if found[1] ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'e', ARGV[2])
redis.call('SPUBLISH', ARGV[3], '')
redis.call('PUBLISH', ARGV[4], ARGV[2] .. ' ' .. found[2] .. ' ' .. found[2] .. ' ' .. ARGV[5])
return 1
