-- Renews the lease of an owner on a channel if everything of it is there.
--
-- ARGV: 1 owner, 2 channel, 3 how long it is kept (ms), 4 how many clients it has there, 5 the sum of their fingerprints,
--   6 's' if the owner has just put them there: then its record becomes so.
-- Answers 1 if it did; 0 if the owner has to say once more who is there.
local owner, channel, kept, wanted, wanted_sum = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
if ARGV[6] ~= 's' then
  local total = 0
  for _, text in ipairs(redis.call('HVALS', owners)) do total = total + read(text).count end
  local listed = redis.call('HLEN', members)
  if listed + redis.call('HLEN', hidden) ~= total or (listed == 0) ~= (redis.call('HLEN', users) == 0) then
    -- A key was lost, or somebody wrote there. Every owner brings back its own.
    redis.call('DEL', members, hidden, users, owners, lingering)
  end
  local record = record_of(owner)
  if record.count ~= wanted or record.sum ~= wanted_sum then return 0 end
end
records[owner] = { count = wanted, sum = wanted_sum }
set_lapse(owner, lapse_after(kept))
keep(channel, kept)
return 1
