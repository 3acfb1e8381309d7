-- Count a caller in rates of sliding windows, unless one of them refuses; then set a process's shares of counters.
-- KEYS: rates, counters. They share a slot.
-- ARGV: number of rates; of each: most hits, length of its window (ms), hits of the caller (1, or 0 for a check only);
--   then, if there are counters: process id, time to keep them (ms), share of each
-- Returns {number of the rate that refuses, or 0 for none; {process id, share, ...} of each counter}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local rates = tonumber(ARGV[1])
local found = {}

for i = 1, rates do
  local most, length = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local held = redis.call('HMGET', KEYS[i], 'window', 'hits', 'before')
  local last, hits, before = tonumber(held[1] or 0), tonumber(held[2] or 0), tonumber(held[3] or 0)
  local window = math.max(math.floor(now / length), last) -- the clock may go back
  if window > last then
    before = window == last + 1 and hits or 0
    hits = 0
  end
  local elapsed = math.max(now - window * length, 0)
  if hits + before * (1 - elapsed / length) + 1 > most then
    return {i}
  end
  found[i] = {window, hits, before, length}
end

for i, each in ipairs(found) do
  if ARGV[3 * i + 1] == '1' then
    redis.call('HSET', KEYS[i], 'window', each[1], 'hits', each[2] + 1, 'before', each[3])
    redis.call('PEXPIRE', KEYS[i], 2 * each[4])
  end
end

local result = {0}
local process = 3 * rates + 2
for i = rates + 1, #KEYS do
  local share = ARGV[process + 1 + i - rates]
  if share == '0' then
    redis.call('HDEL', KEYS[i], ARGV[process])
  else
    redis.call('HSET', KEYS[i], ARGV[process], share)
    redis.call('PEXPIRE', KEYS[i], ARGV[process + 1])
  end
  result[#result + 1] = redis.call('HGETALL', KEYS[i])
end
return result
