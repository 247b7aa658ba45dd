-- Has a client linger: it belongs to nobody from now on, and is in its place for whoever comes back as its user.
--
-- KEYS: 7 graces (sorted set: client and channel, by when it is over) of the owner.
-- ARGV: 1 owner, 2 channel, 3 client, 4 how long (ms), 5 how it is seen (as in a place), 6 'k' if others know that it is
--   there; if not, it lingers only if it took a place itself, and is taken out else.
-- Answers 1 if it lingers, or did until its place was taken; else 0.
local owner, channel, client, seen, graces = ARGV[1], ARGV[2], ARGV[3], ARGV[5], KEYS[7]
local kind = redis.call('TYPE', graces).ok
if kind ~= 'none' and kind ~= 'zset' then
  return redis.error_reply('WRONGTYPE a key of the presence holds something else')
end

local name = client .. channel
local key = redis.call('HEXISTS', members, client) == 1 and members or hidden
local entry = redis.call('HGET', key, client)
if not entry then return redis.call('ZSCORE', graces, name) and 1 or 0 end
if lingers(entry) then return 1 end

-- Before anything that takes room: a script that has given some back goes on in a full Redis.
take_out(client)
if redis.call('HEXISTS', owners, owner) == 0 then redis.call('SREM', index, channel) end
if ARGV[6] ~= 'k' and not has_returned(entry) then return 0 end

local over, user = lapse_after(tonumber(ARGV[4])), user_of(entry)
redis.call('HSET', key, client, NOBODY .. entry:sub(17))
if key == members then redis.call('HINCRBY', users, user, 1) end
count(NOBODY, client, 1)
local count, sum, lapse = read(redis.call('HGET', owners, NOBODY))
-- Whoever is to take it out has a few seconds for that; then it is not seen any more.
write(NOBODY, count, sum, math.max(lapse, over + 5000))
redis.call('HSET', lingering, seen .. user, (redis.call('HGET', lingering, seen .. user) or '') .. client)
redis.call('ZADD', graces, string.format('%.0f', over), name)
stay_on()
-- Longer than any grace, and than it takes others to find that the owner is dead.
redis.call('PEXPIRE', graces, 90000000)
return 1
