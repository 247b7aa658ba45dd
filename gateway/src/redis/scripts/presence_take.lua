-- Takes clients out.
--
-- KEYS: perhaps 7, receipts: a hash of what was taken out under a ticket. A field without a name says that it has ended.
-- ARGV: 1 the owner of the index, 2 'o' for its clients alone, '' for those of any owner, 3 channel, then the clients.
-- Answers those that were there, each as client and entry.
local owner, only, channel, receipts = ARGV[1], ARGV[2] == 'o' and ARGV[1] or nil, ARGV[3], KEYS[7]
if receipts and redis.call('HEXISTS', receipts, '') == 1 then return {} end
local taken = {}
for i = 4, #ARGV do
  local entry = take_out(ARGV[i], only)
  if entry then taken[#taken + 1] = { ARGV[i], entry } end
end
let_go(owner, channel)
if receipts and #taken > 0 then
  redis.call('HSET', receipts, redis.call('HLEN', receipts), cmsgpack.pack({ channel, taken }))
  redis.call('PEXPIRE', receipts, 1200000)
end
return taken
