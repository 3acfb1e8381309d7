-- Declare a process dead, and claim the work of ending its runs.
-- KEYS: process, reaped, mail
-- ARGV: id of the claiming process, time for the work (ms), keep (ms), '1' to do it to a process that lives
-- Returns 0 if it lives, or another process does the work; 1 if the work is claimed; 2 if it is done.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local fields = redis.call('HMGET', KEYS[1], 'until', 'seen', 'host')
if ARGV[4] ~= '1' and fields[1] and tonumber(fields[1]) > now then
  return 0
end
local claim = redis.call('HMGET', KEYS[2], 'by', 'until')
if claim[2] == 'done' then
  return 2
end
if claim[1] and claim[1] ~= ARGV[1] and tonumber(claim[2]) > now then
  return 0
end
redis.call('HSET', KEYS[2], 'by', ARGV[1], 'until', string.format('%d', now + ARGV[2]))
if fields[1] then
  redis.call('HSET', KEYS[2], 'seen', fields[2], 'host', fields[3])
end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('DEL', KEYS[1], KEYS[3])
return 1
