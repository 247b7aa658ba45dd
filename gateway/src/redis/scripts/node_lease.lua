#!lua flags=allow-oom
-- A node lives on for a while. A full Redis must not make nodes look dead.
-- KEYS: the lease of the tenure. ARGV: id of the node, ms, whether the tenure begins (1).
-- Answers 1, or 0 if the tenure has ended.
if ARGV[3] == '1' then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return 1
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
