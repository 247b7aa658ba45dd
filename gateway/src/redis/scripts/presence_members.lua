-- Lists a channel.
--
-- KEYS: 1 members, 2 owners. Answers the clock (ms), owners with their records, clients with their entries.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return { now, redis.call('HGETALL', KEYS[2]), redis.call('HGETALL', KEYS[1]) }
