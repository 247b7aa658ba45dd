-- Makes clients members, or changes what is known of them, and renews the lease of their owner.
--
-- ARGV: 1 owner, 2 channel, 3 how long it is kept (ms), 4 how they are seen (as in a place) if they take the place of who
--   lingers there, else '', then for each client: its id, 'h' (hidden) or '', entry.
-- Answers for each 1 if it was no member, 2 if it took a place, else 0.
local owner, channel, kept, seen = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]

-- Takes out who lingers first in the place of this user, if anybody; answers its entry.
local function take_place(user)
  local clients = redis.call('HGET', lingering, seen .. user) or ''
  for i = 1, #clients, 16 do
    local entry = take_out(clients:sub(i, i + 15), NOBODY)
    if entry then return entry end
  end
end

local answers = {}
for i = 5, #ARGV, 3 do
  local client, entry = ARGV[i], ARGV[i + 2]
  local before = take_out(client)
  local answer = before and 0 or 1
  -- What it took before stays taken, however often it is put there.
  local returned = before and (lingers(before) or has_returned(before))
  if seen ~= '' and (returned or not before and take_place(user_of(entry))) then answer, returned = 2, true end
  if returned then entry = entry .. RETURNED end
  if ARGV[i + 1] == 'h' then
    redis.call('HSET', hidden, client, entry)
  else
    redis.call('HSET', members, client, entry)
    redis.call('HINCRBY', users, user_of(entry), 1)
  end
  count(owner, client, 1)
  answers[#answers + 1] = answer
end
set_lapse(owner, lapse_after(kept))
keep(channel, kept)
return answers
