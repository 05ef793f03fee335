-- Peek: read a page of what is due, starting behind a place in the order of due. Changes nothing.
-- KEYS  1 due ZSET  2 nodes with a healthy database, ZSET  3 mark of a Go producer  4 leader STRING  5 step HASH
--       6 pause HASH
-- ARGV  1 limit, ids  2 horizon_ms, as in claim.lua  3 node id  4 yield_ms
--       5 the place: a score, "" for the beginning  6 the id with this score
-- Returns {now_ms, next_due_ms or "", "1" beside a Go producer or "", by_ms of an open step forward or "",
-- the pause as in paused.lua, id, due_ms, id, due_ms, …}, all as text; next_due_ms is when this node may claim what comes behind the page.
-- While another node has a healthy database, what has been due for less than yield_ms is left to it.
-- While checks are paused, the page is empty.
-- A place later than now means that the clock went back: the page begins at the beginning.

local limit = tonumber(ARGV[1])
local yield_ms = others_healthy(KEYS[2], ARGV[3]) and tonumber(ARGV[4]) or 0
local until_ms = (ARGV[2] == '' and now_ms or math.min(now_ms, ARGV[2])) - yield_ms
local step_at_ms, by_ms = open_step_forward(KEYS[5])

-- returns whether a sorts after b in a ZSET: byte by byte
local function after(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x > y end
  end
  return #a > #b
end

-- returns the rank of the first member behind a place; many may share its score, so this is a binary search
local function rank_behind(score, place)
  local first = redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. score)
  local last = redis.call('ZCOUNT', KEYS[1], '-inf', score)
  while first < last do
    local middle = math.floor((first + last) / 2)
    local id = redis.call('ZRANGE', KEYS[1], middle, middle)[1]
    if after(id, place) then last = middle else first = middle + 1 end
  end
  return first
end

local pause = pause_in(KEYS[6])
local page = {}
-- adds members to the page, from a rank on, up to a score and the limit; returns the score of the next one
local function add(rank, to_ms)
  local room = limit - #page / 2
  local found = redis.call('ZRANGE', KEYS[1], rank, rank + room, 'WITHSCORES')
  for i = 1, #found, 2 do
    if i > 2 * room or tonumber(found[i + 1]) > to_ms then return tonumber(found[i + 1]) end
    page[#page + 1] = found[i]
    page[#page + 1] = found[i + 1]
  end
end

local first = 0
if ARGV[5] ~= '' and tonumber(ARGV[5]) <= now_ms then first = rank_behind(ARGV[5], ARGV[6]) end
local next_ms
if #pause > 0 then
  next_ms = nil
elseif step_at_ms then
  local before_ms = add(first, math.min(until_ms, now_ms - by_ms - yield_ms))
  if before_ms and before_ms <= step_at_ms then next_ms = before_ms + by_ms end
  if #page < 2 * limit then
    local after_ms = add(math.max(first, redis.call('ZCOUNT', KEYS[1], '-inf', step_at_ms)), until_ms)
    next_ms = math.min(next_ms or after_ms or 0, after_ms or next_ms or 0)
  end
else
  next_ms = add(first, until_ms)
end

local next_due = next_ms and string.format('%.17g', next_ms + yield_ms) or ''
local stepped = by_ms and string.format('%d', by_ms) or ''
return {string.format('%d', now_ms), next_due, beside_go(KEYS[3], KEYS[4]), stepped, pause, unpack(page)}
