-- Takes clients out.
--
-- ARGV: 1 the owner of the index, 2 'o' for its clients alone, '' for those of any owner, 3 channel, then the clients.
-- Answers those that were there, each as client and entry.
local owner, only, channel = ARGV[1], ARGV[2] == 'o' and ARGV[1] or nil, ARGV[3]
local taken = {}
for i = 4, #ARGV do
  local entry = take_out(ARGV[i], only)
  if entry then taken[#taken + 1] = { ARGV[i], entry } end
end
if redis.call('HEXISTS', owners, owner) == 0 then redis.call('SREM', index, channel) end
return taken
