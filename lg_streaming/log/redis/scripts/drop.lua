#!lua
-- Remove an execution, and notify its readers.
-- KEYS  stream of chunks, state hash, sorted set of idempotency keys
-- ARGV  channel, channel of all executions, execution id
local removed = redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
if removed > 0 then
  redis.call('SPUBLISH', ARGV[1], '')
  redis.call('PUBLISH', ARGV[2], '- 0 0 ' .. ARGV[3])
end
return removed
