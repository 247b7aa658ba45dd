-- A node has so many connections of a user.
-- KEYS: a hash of tenure -> "COUNT:TIME" of the user. ARGV: tenure, count, ms that the hash lives, ms after which the
-- count of a tenure that is not known to live is given up, then the tenures that live.
-- Answers how many there are on all nodes that live.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[2] == '0' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. string.format(':%d', now))
end
local lives = { [ARGV[1]] = true }
for index = 5, #ARGV do
  lives[ARGV[index]] = true
end
local total = 0
local all = redis.call('HGETALL', KEYS[1])
for index = 1, #all, 2 do
  local tenure = all[index]
  local count, counted = string.match(all[index + 1], '^(%d+):(%d+)$')
  if count and lives[tenure] then
    total = total + count
  elseif not count or now - counted > tonumber(ARGV[4]) then
    redis.call('HDEL', KEYS[1], tenure)
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return total
