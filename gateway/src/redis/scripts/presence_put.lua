-- Makes clients members, or changes what is known of them, and renews the lease of their owner.
--
-- ARGV: 1 owner, 2 channel, 3 how long it is kept (ms), then for each client: its id, 'h' (hidden) or '', entry.
-- Answers for each 1 if it was no member, else 0.
local owner, channel, kept = ARGV[1], ARGV[2], tonumber(ARGV[3])
local answers = {}
for i = 4, #ARGV, 3 do
  local client, entry = ARGV[i], ARGV[i + 2]
  answers[#answers + 1] = take_out(client) and 0 or 1
  if ARGV[i + 1] == 'h' then
    redis.call('HSET', hidden, client, entry)
  else
    redis.call('HSET', members, client, entry)
    redis.call('HINCRBY', users, user_of(entry), 1)
  end
  count(owner, client, 1)
end
local count, sum = read(redis.call('HGET', owners, owner))
write(owner, count, sum, lapse_after(kept))
keep(channel, kept)
return answers
