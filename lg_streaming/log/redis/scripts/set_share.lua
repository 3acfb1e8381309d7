-- Set a process's share of a counter.
-- KEYS: counter
-- ARGV: process id, share, time to keep it (ms)
-- Returns {process id, share, ...}.
if ARGV[2] == '0' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return redis.call('HGETALL', KEYS[1])
