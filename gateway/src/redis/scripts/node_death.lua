#!lua flags=allow-oom
-- Declares a node dead whose lease has run out. From then on it is, whatever becomes of it: others clear away what it
-- kept, and it hears so when it asks to live on.
-- KEYS: the lease of the tenure. ARGV: ms that this is remembered.
-- Answers whether it is dead.
local lease = redis.call('GET', KEYS[1])
if lease then return lease == 'dead' and 1 or 0 end
redis.call('SET', KEYS[1], 'dead', 'PX', ARGV[1])
return 1
