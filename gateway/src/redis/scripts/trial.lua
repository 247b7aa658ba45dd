-- Which of the commands that the gateway runs on keys and channels this user may not run.
-- KEYS: a hash, a stream, a set, a sorted set and a string, which end by themselves. ARGV: a channel.
-- Answers their names.
local hash, stream, set, sorted, text = unpack(KEYS)
local missing = {}

local function try(...)
  local answer = redis.pcall(...)
  local failure = type(answer) == 'table' and answer.err or ''
  -- In the words of 7.0, and of what came later. Whatever else fails, such as for want of memory, will pass.
  if failure:find('user executing the script', 1, true) or failure:find('ACL failure in script', 1, true) then
    missing[#missing + 1] = (...)
  end
end

try('TIME')
for _, key in ipairs(KEYS) do try('DEL', key) end
try('HSET', hash, 'a', '1')
try('HGET', hash, 'a')
try('HMGET', hash, 'a')
try('HGETALL', hash)
try('HVALS', hash)
try('HLEN', hash)
try('HEXISTS', hash, 'a')
try('HINCRBY', hash, 'a', 1)
try('HSCAN', hash, 0)
try('HDEL', hash, 'b')
try('XADD', stream, 'MAXLEN', '=', '1', '1-0', 'a', '1')
try('XRANGE', stream, '-', '+')
try('XREVRANGE', stream, '+', '-')
try('SADD', set, 'a')
try('SREM', set, 'b')
try('SSCAN', set, 0)
try('ZADD', sorted, 1, 'a')
try('ZSCORE', sorted, 'a')
try('ZCARD', sorted)
try('ZREM', sorted, 'b')
try('ZRANGE', sorted, 0, -1)
try('ZREVRANGE', sorted, 0, -1)
try('ZREMRANGEBYSCORE', sorted, 2, 2)
try('SET', text, 'a', 'PX', 1000)
try('GET', text)
try('TYPE', text)
try('PEXPIREAT', text, '9999999999999')
for _, key in ipairs(KEYS) do try('PEXPIRE', key, 1000) end
try('PUBLISH', ARGV[1], '')
return missing
