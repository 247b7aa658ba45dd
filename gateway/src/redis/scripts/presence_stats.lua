-- Counts a channel, whatever its size.
--
-- KEYS: 1 members, 2 owners, 3 users. Answers the clock (ms), owners with their records, how many members, how many users.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return { now, redis.call('HGETALL', KEYS[2]), redis.call('HLEN', KEYS[1]), redis.call('HLEN', KEYS[3]) }
