-- Has clients linger: they belong to nobody from now on, and are in their places for whoever comes back as their users.
--
-- KEYS: 7 graces (sorted set: client and channel, by when it is over) of the owner.
-- ARGV: 1 owner, 2 channel, then for each client: its id, how long (ms), how it is seen (as in a place), 'k' if others
--   know that it is there; if not, it lingers only if it took a place itself, and is taken out else.
-- Answers for each 1 if it lingers, or did until its place was taken; else 0.
local owner, channel, graces = ARGV[1], ARGV[2], KEYS[7]
local kind = redis.call('TYPE', graces).ok
if kind ~= 'none' and kind ~= 'zset' then
  return redis.error_reply('WRONGTYPE a key of the presence holds something else')
end

local last = 0

-- Changes the entry where it is, and what counts it: a crowd that is taken out and put back would cost twice as much.
local function linger(client, lasts, seen, is_known)
  local name = client .. channel
  local key, entry = members, redis.call('HGET', members, client)
  if not entry then key, entry = hidden, redis.call('HGET', hidden, client) end
  if not entry then return redis.call('ZSCORE', graces, name) and 1 or 0 end
  if lingers(entry) then return 1 end
  if not is_known and not has_returned(entry) then
    take_out(client)
    return 0
  end

  local over, place = lapse_after(lasts), seen .. user_of(entry)
  redis.call('HSET', key, client, NOBODY .. entry:sub(17))
  count(entry:sub(1, 16), client, -1)
  count(NOBODY, client, 1)
  redis.call('HSET', lingering, place, (redis.call('HGET', lingering, place) or '') .. client)
  redis.call('ZADD', graces, string.format('%.0f', over), name)
  last = math.max(last, over)
  return 1
end

local answers = {}
for i = 3, #ARGV, 4 do
  answers[#answers + 1] = linger(ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3] == 'k')
end
if last > 0 then
  -- Whoever is to take them out has a few seconds for that; then they are not seen any more.
  set_lapse(NOBODY, math.max(record_of(NOBODY).lapse, last + 5000))
end
let_go(owner, channel)
if last > 0 then
  stay_on()
  -- Longer than any grace, and than it takes others to find that the owner is dead.
  redis.call('PEXPIRE', graces, 90000000)
end
return answers
