-- Names those of an owner whose grace is over.
--
-- KEYS: 1 graces. ARGV: 1 how many at most. Answers in how many ms the next one's is over (-1: there is none), and those
-- whose is, each as its client and its channel in one.
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local due = redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1])
local next = redis.call('ZRANGE', KEYS[1], '(' .. now, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
return { next[2] and next[2] - now or -1, due }
