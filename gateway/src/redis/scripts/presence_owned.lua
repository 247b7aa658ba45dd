-- Names the clients of an owner in a part of a hash of clients.
--
-- KEYS: 1 members or hidden members. ARGV: 1 owner, 2 where the part begins (0 for the first), 3 about how many to look at.
-- Answers where the next part begins (0 for none), and the clients.
local part = redis.call('HSCAN', KEYS[1], ARGV[2], 'COUNT', ARGV[3])
local clients = {}
for i = 1, #part[2], 2 do
  if part[2][i + 1]:sub(1, 16) == ARGV[1] then clients[#clients + 1] = part[2][i] end
end
return { part[1], clients }
