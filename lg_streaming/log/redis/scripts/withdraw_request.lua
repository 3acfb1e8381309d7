-- Withdraw a request from a mailbox.
-- KEYS: process, mail, reaped
-- ARGV: entry
-- Returns {1 if it was in the mailbox, 1 if the process lives, last renewal (ms) or '', host or '', now (ms)}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local removed = redis.call('LREM', KEYS[2], 1, ARGV[1])
local fields = redis.call('HMGET', KEYS[1], 'until', 'seen', 'host')
local lives = 1
if not fields[1] or tonumber(fields[1]) <= now then
  lives = 0
  if not fields[1] then
    fields = redis.call('HMGET', KEYS[3], 'until', 'seen', 'host')
  end
end
return {removed, lives, fields[2] or '', fields[3] or '', string.format('%d', now)}
