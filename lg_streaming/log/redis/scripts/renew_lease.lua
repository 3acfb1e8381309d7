-- Renew the lease of a process, or take it.
-- KEYS: process, reaped, runs, mail
-- ARGV: lease (ms), keep (ms), report, host, pid, version
-- Returns {state, waiting}: 0 renewed, 1 taken, -1 if the process was declared dead; the number of waiting requests.
if redis.call('EXISTS', KEYS[2]) == 1 then
  return {-1, 0}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local taken = 0
if redis.call('EXISTS', KEYS[1]) == 0 then
  taken = 1
  redis.call('HSET', KEYS[1], 'host', ARGV[4], 'pid', ARGV[5], 'version', ARGV[6],
    'started', string.format('%d', now))
end
redis.call('HSET', KEYS[1], 'report', ARGV[3], 'seen', string.format('%d', now),
  'until', string.format('%d', now + ARGV[1]))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[3], ARGV[2])
return {taken, redis.call('LLEN', KEYS[4])}
