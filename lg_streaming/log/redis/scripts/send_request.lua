-- Put a request into the mailbox of a process, and notify the process.
-- KEYS: process, mail, reaped
-- ARGV: time for the request (ms), request, channel of the process, most requests that wait
-- Returns {1, deadline (ms)}; {2} if too many wait; {0, seconds since the last renewal or '', host or ''} if it is dead.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local fields = redis.call('HMGET', KEYS[1], 'until', 'seen', 'host')
if not fields[1] or tonumber(fields[1]) <= now then
  if not fields[1] then
    fields = redis.call('HMGET', KEYS[3], 'until', 'seen', 'host')
  end
  return {0, fields[2] or '', fields[3] or '', string.format('%d', now)}
end
if redis.call('LLEN', KEYS[2]) >= tonumber(ARGV[4]) then
  return {2}
end
local deadline = string.format('%d', now + ARGV[1])
redis.call('RPUSH', KEYS[2], deadline .. ' ' .. ARGV[2])
local keep = ARGV[1] + 60000 -- the sender withdraws a request after its deadline, and so finds out that it waits
if redis.call('PTTL', KEYS[2]) < keep then
  redis.call('PEXPIRE', KEYS[2], keep)
end
redis.call('PUBLISH', ARGV[3], 'm')
return {1, deadline}
