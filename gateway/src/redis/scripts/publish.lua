-- Keeps publications in the history of a channel and sends them to whoever is subscribed, as one step.
--
-- KEYS: 1 metadata (hash), 2 kept publications (stream), then the key of each draft that has an idempotency key.
-- ARGV: 1 the Redis channel, 2 how an envelope begins, 3 an epoch for a history that has none, 4 its lineage,
--   5 most publications kept (0: no history), 6 their time, 7 that of the metadata, 8 that of an idempotency key
--   (all in ms), 9 and 10 an epoch and an offset that are known to have been given out, or '': a history of that epoch
--   that has not come so far has lost its end, and begins a new epoch; then for each draft: 'k' or '' (has a key), version as 20 digits or '', version epoch, publication.
-- Answers for each draft: epoch, offset (0 without a history), 1 if it was suppressed.
--
-- What was written is not rolled back when a later command fails, so what can fail comes first: the stream before the
-- counter. A counter behind its stream (its key was lost, or overwritten) begins a new epoch.
local FIXED = 10
local meta, stream = KEYS[1], KEYS[2]
local channel, head, candidate, lineage = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local size, ttl, meta_ttl, key_ttl = tonumber(ARGV[5]), ARGV[6], ARGV[7], ARGV[8]
local epoch, offset, version, version_epoch = '', 0, false, false
local answers, accepted, next_key, first = {}, {}, 3, 0

if size > 0 then
  local known = redis.pcall('HMGET', meta, 'e', 'o', 'v', 'w')
  if known.err then
    -- Somebody put something else there.
    redis.call('DEL', meta)
    known = {}
  end
  epoch, offset = known[1] or candidate, tonumber(known[2] or 0)
  version, version_epoch = known[3], known[4]
  if epoch == ARGV[9] and offset < tonumber(ARGV[10]) then
    epoch, offset, version, version_epoch = candidate, 0, false, false
  end
end

local function append(publication)
  local id = string.format('%.0f-0', offset + 1)
  -- Exactly so many (=): who counts on the size may count on all of it.
  return redis.pcall('XADD', stream, 'MAXLEN', '=', size, id, 'p', publication)
end

for i = FIXED + 1, #ARGV, 4 do
  local draft_version, draft_epoch, publication = ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local key = nil
  if ARGV[i] == 'k' then
    key = KEYS[next_key]
    next_key = next_key + 1
  end
  local answered = key and redis.call('GET', key)
  if answered then
    local known_epoch, known_offset = answered:match('^(.*):(%d+)$')
    answers[#answers + 1] = { known_epoch, tonumber(known_offset), 1 }
  elseif size > 0 and draft_version ~= '' and version and draft_version <= version
      and (draft_epoch == '' or draft_epoch == version_epoch) then
    answers[#answers + 1] = { epoch, offset, 1 }
  else
    if size > 0 then
      local added = append(publication)
      if added.err and #accepted == 0 and not added.err:find('^OOM') then
        -- What is kept belongs to a history that is no more: its counter was lost, or is behind.
        redis.call('DEL', stream, meta)
        epoch, offset, version, version_epoch = candidate, 0, false, false
        added = append(publication)
      end
      if added.err then return added end
      offset = offset + 1
      if first == 0 then first = offset end
      if draft_version ~= '' then version, version_epoch = draft_version, draft_epoch end
    end
    accepted[#accepted + 1] = publication
    answers[#answers + 1] = { epoch, offset, 0 }
    if key then redis.call('SET', key, epoch .. ':' .. string.format('%.0f', offset), 'PX', key_ttl) end
  end
end

if #accepted > 0 then
  local tail = table.concat(accepted)
  if size > 0 then
    redis.call('HSET', meta, 'e', epoch, 'o', string.format('%.0f', offset), 'l', lineage)
    if version then redis.call('HSET', meta, 'v', version, 'w', version_epoch) end
    redis.call('PEXPIRE', meta, meta_ttl)
    redis.call('PEXPIRE', stream, ttl)
    -- Fields 2 and 3 of the envelope.
    head = head .. '\18' .. string.char(#epoch) .. epoch .. '\25' .. struct.pack('<I8', first)
  end
  -- What is kept is published, even if it may not be sent: whoever follows the history finds it there.
  redis.pcall('PUBLISH', channel, head .. tail)
end
return answers
