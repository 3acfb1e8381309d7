-- Remove requests from a mailbox, and return those whose deadline has not passed.
-- KEYS: mail
-- ARGV: most requests to take
-- Returns {number that waited, {time left (ms), request, ...}}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local entries = redis.call('LPOP', KEYS[1], ARGV[1])
if not entries then
  return {0, {}}
end
local taken = {}
for _, entry in ipairs(entries) do
  local space = string.find(entry, ' ', 1, true)
  local left = (space and tonumber(string.sub(entry, 1, space - 1)) or now) - now
  if left > 0 then  -- else it is late, or no request
    taken[#taken + 1] = left
    taken[#taken + 1] = string.sub(entry, space + 1)
  end
end
return {#entries, taken}
