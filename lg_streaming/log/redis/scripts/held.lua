#!lua flags=no-writes
-- Return epoch, head and the number of a producer's last batch for executions: KEYS are their state hashes, ARGV their
-- producers. An unknown or unreadable execution has an empty epoch, an unknown producer the number 0.
local result = {}
for i, key in ipairs(KEYS) do
  local found = redis.pcall('HMGET', key, 'e', 'h', 'n:' .. ARGV[i])
  if found.err or not string.match(found[2] or '', '^%d+$') then found = {} end
  result[3 * i - 2], result[3 * i - 1] = found[1] or '', found[2] or '0'
  result[3 * i] = string.match(found[3] or '', '^%d+') or '0'
end
return result
