-- Take or renew claims.
-- KEYS: claims
-- ARGV: process id, lease (ms)
-- Returns 1 for each claim that the process holds now, else 0.
local held = {}
for index, key in ipairs(KEYS) do
  local holder = redis.call('GET', key)
  if not holder or holder == ARGV[1] then
    redis.call('SET', key, ARGV[1], 'PX', ARGV[2])
    held[index] = 1
  else
    held[index] = 0
  end
end
return held
