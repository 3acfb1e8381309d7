#!lua flags=no-writes
-- Return epoch and head of executions: KEYS are their state hashes. An unknown or unreadable one has an empty epoch.
local result = {}
for i, key in ipairs(KEYS) do
  local found = redis.pcall('HMGET', key, 'e', 'h')
  if found.err or not string.match(found[2] or '', '^%d+$') then found = {} end
  result[2 * i - 1], result[2 * i] = found[1] or '', found[2] or '0'
end
return result
