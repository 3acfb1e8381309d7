-- Release the claim of `begin_reaping`.
-- KEYS: reaped, runs
-- ARGV: id of the claiming process, '1' if the work is done
if redis.call('HGET', KEYS[1], 'by') ~= ARGV[1] then
  return 0
end
if ARGV[2] == '1' then
  redis.call('HSET', KEYS[1], 'until', 'done')
  redis.call('DEL', KEYS[2])
else
  redis.call('HSET', KEYS[1], 'until', '0')
end
return 1
