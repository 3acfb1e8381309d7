#!lua flags=no-writes
-- Read the state of an execution, and chunks of its updates.
--
-- KEYS  stream of chunks, state hash
-- ARGV  1 sequence number to read after; negative: as many updates before the head
--       2 most updates  3 most bytes of chunks
-- Returns {} for an unknown execution, else {state fields, whether the stream exists, id, count, records, id, …}.

local state = redis.call('HMGET', KEYS[2], 'e', 'h', 'l', 'o', 's', 'r', 'p', 't', 'u', 'f', 'fr', 'sr', 'pr', 'us')
if not state[1] then return {} end
local result = {state, redis.call('EXISTS', KEYS[1])}
local head, after, limit, room = tonumber(state[2]), tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if after < 0 then after = math.max(0, head + after) end
local found, step = after, 4
while found < head and found - after < limit and room > 0 do
  local page = redis.call('XRANGE', KEYS[1], (found + 1) .. '-0', '+', 'COUNT', step)
  if #page == 0 then break end
  for _, entry in ipairs(page) do
    local seq = tonumber(string.match(entry[1], '^%d+'))
    result[#result + 1], result[#result + 2], result[#result + 3] = seq, tonumber(entry[2][2]), entry[2][4]
    room, found = room - #entry[2][4], seq
    if found - after >= limit or room <= 0 then break end
  end
  step = 32
end
return result
