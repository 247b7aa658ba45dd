#!lua flags=allow-oom
-- Ends a ticket: who comes later takes out nobody under it.
--
-- KEYS: 1 receipts. Answers what was taken out, as channels, each with clients and entries.
local receipts = {}
for _, packed in ipairs(redis.call('HVALS', KEYS[1])) do
  if packed ~= '' then receipts[#receipts + 1] = cmsgpack.unpack(packed) end
end
redis.call('HSET', KEYS[1], '', '')
redis.call('PEXPIRE', KEYS[1], 1200000)
return receipts
