#!lua flags=allow-oom
-- A node says what it is, and hears of the others.
-- KEYS: a hash of tenure -> "SEEN:CLAIMED:REPORT", times in ms; 0 is never.
-- ARGV: tenure, report, ms after which a silent node is dead, ms that a claim on a dead one lasts, ms that the hash
--   lives, whether dead ones are asked for (1).
-- Answers the reports of the others that live, the tenures of dead ones, which nobody else is given for a while, and
-- whether this node was known.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local was_known = redis.call('HEXISTS', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d:0:', now) .. ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
local living, dead = {}, {}
local all = redis.call('HGETALL', KEYS[1])
for index = 1, #all, 2 do
  local tenure, value = all[index], all[index + 1]
  local seen, claimed, report = string.match(value, '^(%d+):(%d+):(.*)$')
  if tenure == ARGV[1] then
    -- This one.
  elseif not seen then
    redis.call('HDEL', KEYS[1], tenure)
  elseif now - seen < tonumber(ARGV[3]) then
    living[#living + 1] = report
  elseif ARGV[6] == '1' and now - claimed >= tonumber(ARGV[4]) then
    redis.call('HSET', KEYS[1], tenure, seen .. string.format(':%d:', now))
    dead[#dead + 1] = tenure
  end
end
return { living, dead, was_known }
