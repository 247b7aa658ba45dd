-- Whether this user may do what the gateway does. KEYS: a hash, a stream. ARGV: a channel.
redis.call('HSET', KEYS[1], 'a', '1')
redis.call('PEXPIRE', KEYS[1], 1000)
redis.call('DEL', KEYS[2])
redis.call('XADD', KEYS[2], 'MAXLEN', '=', '1', '1-0', 'a', '1')
redis.call('PEXPIRE', KEYS[2], 1000)
redis.call('XRANGE', KEYS[2], '-', '+')
redis.call('PUBLISH', ARGV[1], '')
return redis.call('HGETALL', KEYS[1])
