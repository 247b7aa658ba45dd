-- Reads a part of the history of a channel. One that has no epoch gets one, which stays for the time of the metadata.
--
-- KEYS: 1 metadata (hash), 2 kept publications (stream).
-- ARGV: 1 an epoch for a history that has none, 2 its lineage, 3 time of the metadata (ms; 0: as it is), 4 'r' for newest first,
--   5 offset to begin strictly after (before in reverse) or '', 6 most publications or '', 7 most bytes or '',
--   8 and 9: an epoch and an offset that are known to have been given out, or ''. A history of that epoch that has not
--   come so far has lost its end: it begins a new epoch.
-- Answers epoch, top offset, and the entries, each as offset and publication.
local meta, stream = KEYS[1], KEYS[2]
local candidate, lineage, meta_ttl = ARGV[1], ARGV[2], ARGV[3]
local known = redis.pcall('HMGET', meta, 'e', 'o')
if known.err then
  redis.call('DEL', meta)
  known = {}
end
local epoch, offset = known[1], tonumber(known[2] or 0)
if not epoch or (epoch == ARGV[8] and offset < tonumber(ARGV[9])) then
  epoch, offset = candidate, 0
  -- First what a full Redis refuses.
  redis.call('HSET', meta, 'e', epoch, 'o', '0', 'l', lineage)
  redis.call('HDEL', meta, 'v', 'w')
  redis.call('DEL', stream)
  redis.call('PEXPIRE', meta, 86400000)
end
if meta_ttl ~= '0' then redis.call('PEXPIRE', meta, meta_ttl) end

local found = {}
if ARGV[6] ~= '0' then
  local limit = {}
  if ARGV[6] ~= '' then limit = { 'COUNT', ARGV[6] } end
  local since = ARGV[5] ~= '' and ('(' .. ARGV[5] .. '-0')
  local entries
  if ARGV[4] == 'r' then
    entries = redis.pcall('XREVRANGE', stream, since or '+', '-', unpack(limit))
  else
    -- "After 0" is the beginning. An exclusive end must be an id that can have a neighbour.
    entries = redis.pcall('XRANGE', stream, since or '-', '+', unpack(limit))
  end
  -- Of a key that holds something else nothing is kept; the next publication makes room for itself.
  if entries.err then entries = {} end
  local bytes, bytes_max = 0, tonumber(ARGV[7]) or math.huge
  for _, entry in ipairs(entries) do
    local publication = entry[2][2]
    bytes = bytes + #publication
    if bytes > bytes_max and #found > 0 then break end
    found[#found + 1] = { tonumber(entry[1]:match('^%d+')), publication }
  end
end
return { epoch, offset, found }
