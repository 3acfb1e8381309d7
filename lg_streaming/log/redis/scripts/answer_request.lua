-- Store the answer to a request, and notify the process that asked.
-- KEYS: answer
-- ARGV: time to keep it (ms), answer, channel of the process that asked, notification
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[1])
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 1
