-- What the scripts have in common that change the presence; it stands before each of them.
--
-- A channel has five keys, and each owner an index of its channels:
--   KEYS: 1 members, 2 hidden members (hashes: client to entry), 3 users (hash: user to its number of members),
--   4 owners (hash: owner to its record), 5 lingering (hash: place to the clients that linger there, 16 bytes each, the
--   first to begin first), 6 the index (set of channels) of the owner that the script is about.
-- An entry begins with its owner (16 bytes) and its user, which ends at a line break. Who lingers belongs to nobody.
-- A place is how one is seen ('l' listed or 'h' hidden, then 'a' announced or '-' not), and the user.
-- A record is 'count sum lapse': members and hidden ones together, the sum of their fingerprints modulo 2^32, and when
-- the lease ends (ms of the clock of Redis).
--
-- What was written is not rolled back when a later command fails, so types are checked first.
local members, hidden, users, owners, lingering, index = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]

local NOBODY = string.rep('\0', 16)
-- The last field of an entry, by which it says that it took the place of one that lingered.
local RETURNED = '\32\1'
-- Who lingers is kept so much longer than it is seen (ms): whoever is to announce its leave may be held up.
local HELD_UP = 600000

for i = 1, 6 do
  local kind = redis.call('TYPE', KEYS[i]).ok
  if kind ~= 'none' and kind ~= (i == 6 and 'set' or 'hash') then
    return redis.error_reply('WRONGTYPE a key of the presence holds something else')
  end
end

local function lapse_after(kept)
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000) + kept
end

local function fingerprint(client)
  local a, b, c, d = client:byte(1, 4)
  return ((a * 256 + b) * 256 + c) * 256 + d
end

-- Of what is no record: zeros.
local function read(text)
  local count, sum, lapse = (text or ''):match('^(%d+) (%d+) (%d+)$')
  return { count = tonumber(count or 0), sum = tonumber(sum or 0), lapse = tonumber(lapse or 0) }
end

-- Of each owner whom the script is about, from when it is first asked for: one that changes many clients reads a record
-- once, and writes it once when `finish` is called.
local records = {}

local function record_of(owner)
  records[owner] = records[owner] or read(redis.call('HGET', owners, owner))
  return records[owner]
end

-- Adds a client to the record of its owner (1), or takes it off (-1).
local function count(owner, client, step)
  local record = record_of(owner)
  record.count, record.sum = record.count + step, (record.sum + step * fingerprint(client)) % 4294967296
  record.has_changed = true
end

local function set_lapse(owner, lapse)
  local record = record_of(owner)
  record.lapse, record.has_changed = lapse, true
end

-- To be called at the end, once. The last client of an owner takes the record along.
local function finish()
  for owner, record in pairs(records) do
    if record.has_changed and record.count <= 0 then
      redis.call('HDEL', owners, owner)
    elseif record.has_changed then
      local text = string.format('%.0f %.0f %.0f', record.count, record.sum, record.lapse)
      redis.call('HSET', owners, owner, text)
    end
  end
end

local function user_of(entry)
  return entry:match('^[^\n]*', 17)
end

local function lingers(entry)
  return entry:sub(1, 16) == NOBODY
end

local function has_returned(entry)
  return entry:sub(-2) == RETURNED
end

-- Takes a client that lingered off its place.
local function strike(client, kind, user)
  for _, word in ipairs({ 'a', '-' }) do
    local place = kind .. word .. user
    local known = redis.call('HGET', lingering, place) or ''
    local rest = known
    if known:sub(1, 16) == client then
      -- As a rule: who was first goes first. Many may linger in one place.
      rest = known:sub(17)
    else
      for i = 17, #known, 16 do
        if known:sub(i, i + 15) == client then
          rest = known:sub(1, i - 1) .. known:sub(i + 16)
          break
        end
      end
    end
    if rest == '' then
      redis.call('HDEL', lingering, place)
    elseif #rest < #known then
      redis.call('HSET', lingering, place, rest)
    end
  end
end

-- Takes out a client, if it is there and `only` is its owner or nil; answers its entry.
local function take_out(client, only)
  for _, key in ipairs({ members, hidden }) do
    local entry = redis.call('HGET', key, client)
    local owner = entry and entry:sub(1, 16)
    if entry and (not only or owner == only) then
      redis.call('HDEL', key, client)
      local user = user_of(entry)
      if key == members and redis.call('HINCRBY', users, user, -1) <= 0 then redis.call('HDEL', users, user) end
      count(owner, client, -1)
      if owner == NOBODY then strike(client, key == members and 'l' or 'h', user) end
      return entry
    end
  end
end

-- Keeps everything for `kept` ms from now on, and longer while somebody lingers.
local function stay(kept)
  local lapse = record_of(NOBODY).lapse
  if lapse > 0 then kept = math.max(kept, lapse - lapse_after(0) + HELD_UP) end
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, string.format('%.0f', kept)) end
end

-- Keeps everything for as long as somebody lingers, and never shorter than it is kept.
local function stay_on()
  local kept = string.format('%.0f', record_of(NOBODY).lapse - lapse_after(0) + HELD_UP)
  for _, key in ipairs(KEYS) do
    -- What has no end yet is no longer kept by the first of the two.
    redis.call('PEXPIRE', key, kept, 'GT')
    redis.call('PEXPIRE', key, kept, 'NX')
  end
end

-- Ends a script after which the owner has somebody in the channel: as `finish` and `stay`.
local function keep(channel, kept)
  finish()
  redis.call('SADD', index, channel)
  stay(kept)
end

-- Ends a script after which the owner may have nobody there any more.
local function let_go(owner, channel)
  finish()
  if record_of(owner).count <= 0 then redis.call('SREM', index, channel) end
end

