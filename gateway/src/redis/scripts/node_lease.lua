#!lua flags=allow-oom
-- A node lives on for a while, unless it was declared dead. A full Redis must not make nodes look dead.
-- That its lease has run out says nothing by itself: Redis may have been away, or have lost it.
-- KEYS: the lease of the tenure. ARGV: id of the node, ms.
-- Answers 1, or 0 if the tenure has ended.
if redis.call('GET', KEYS[1]) == 'dead' then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
