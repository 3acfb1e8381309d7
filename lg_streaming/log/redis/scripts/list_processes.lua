-- Record the lease of a process, and list all processes with the ends of their leases.
-- KEYS: processes
-- ARGV: process id and lease (ms), or nothing
-- Returns {now (ms), {process id, end of its lease (ms), ...}}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[1] then
  redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
end
return {now, redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')}
