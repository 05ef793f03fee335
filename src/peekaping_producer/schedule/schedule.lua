-- Schedule: bring active monitors into the schedule, and leave alone what is right already. For the leader only.
-- KEYS  1 due ZSET  2 lease ZSET  3 leader STRING  4 tombstones ZSET  5 step HASH
-- ARGV  1 node id  2 channel of signals  3 soon_ms: all nodes are woken for what is due within that
--       4 lost_ms: what is in neither set is added at its first slot of the last lost_ms, or its next one
--       then five for each id: id, period_ms, phase_ms, "now" (due at once if it is in neither set) or "",
--       "edited" (a person changed its row), "period" (and is known to have changed its period), the period of its retry grid,
--       which it is not on now, or ""
-- Returns one of added, moved, revoked, kept for each id; nothing at all if the node does not lead.
-- Keeps invariants 5 (claimed and overdue monitors are left alone, unless the claim may have read the row before its edit; one
-- that is due on another grid after an edit, on its retry grid when it is no longer on that, or later than 1.5 periods from now,
-- moves to its first slot ≥ now + period / 2) and 9 (the check of the leader). What a step of Redis' clock made overdue, or due
-- far ahead, moves to about where it would be due without it.
if redis.call('GET', KEYS[3]) ~= ARGV[1] then return false end

local function slot_from(at_ms, period_ms, phase_ms)
  return at_ms + (phase_ms - at_ms) % period_ms
end

-- a Go node's slots are 1 ms before our aligned ones
local function on_grid(due_ms, period_ms, phase_ms)
  local off_ms = (due_ms - phase_ms) % period_ms
  return off_ms == 0 or off_ms == period_ms - 1
end

local step_at_ms, by_ms = open_step(KEYS[5])
local function misplaced(due_ms, period_ms)
  if not step_at_ms then return false end
  if by_ms < 0 then return due_ms > now_ms + period_ms * 1.5 end
  return due_ms > now_ms - by_ms and due_ms <= step_at_ms
end

-- returns the slot nearest to an instant. If that is past, the instant itself: otherwise many would be claimed now, at once
local function nearest_slot(due_ms, half_ms, period_ms, phase_ms)
  local slot_ms = slot_from(math.ceil(math.min(due_ms, now_ms + period_ms * 1.5) - half_ms), period_ms, phase_ms)
  return slot_ms >= now_ms and slot_ms or as_score(math.max(now_ms, due_ms))
end

local since_ms = now_ms - ARGV[4]
local outcomes, soonest_ms, ids = {}, math.huge, {}
for i = 5, #ARGV, 5 do
  local id, period_ms, phase_ms = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local retry_ms = tonumber(ARGV[i + 4])
  local edited = ARGV[i + 4] ~= '' and not retry_ms
  local half_ms = math.floor(period_ms / 2)
  local outcome, to_ms = 'kept', nil
  local due_ms = tonumber(redis.call('ZSCORE', KEYS[1], id) or nil)
  if due_ms then
    -- beside a Go node a monitor may be in both sets
    if edited then redis.call('ZREM', KEYS[2], id) end
    local regrid = edited and not on_grid(due_ms, period_ms, phase_ms)
      or ARGV[i + 4] == 'period' and due_ms < now_ms + half_ms
      or retry_ms and (due_ms - phase_ms) % retry_ms == 0 and not on_grid(due_ms, period_ms, phase_ms)
    local by_step = misplaced(due_ms, period_ms)
    if by_step and not regrid then
      outcome, to_ms = 'moved', nearest_slot(due_ms + by_ms, half_ms, period_ms, phase_ms)
    elseif by_step or due_ms > now_ms and regrid or due_ms > now_ms + period_ms * 1.5 then
      outcome, to_ms = 'moved', slot_from(now_ms + half_ms, period_ms, phase_ms)
    end
  elseif not redis.call('ZSCORE', KEYS[2], id) then
    outcome, to_ms = 'added', ARGV[i + 3] == 'now' and as_score(now_ms) or slot_from(since_ms, period_ms, phase_ms)
  elseif edited then
    outcome, to_ms = 'revoked', as_score(now_ms)
    redis.call('ZREM', KEYS[2], id)
  end
  if to_ms then
    redis.call('ZADD', KEYS[1], to_ms, id)
    soonest_ms = math.min(soonest_ms, to_ms)
  end
  outcomes[#outcomes + 1] = outcome
  ids[#ids + 1] = id
end

if #ids > 0 and redis.call('EXISTS', KEYS[4]) == 1 then redis.call('ZREM', KEYS[4], unpack(ids)) end
if soonest_ms <= now_ms + ARGV[3] then redis.call('PUBLISH', ARGV[2], 'due') end
return outcomes
