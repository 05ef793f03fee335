-- Schedule: bring active monitors into the schedule, and leave alone what is right already.
-- KEYS  1 due ZSET  2 lease ZSET
-- ARGV  four for each id: id, period_ms, phase_ms, "now" (due at once where it is in neither set) or ""
-- Returns one of added, moved, kept for each id.
-- Keeps invariant 5: claimed and overdue ones stay; one due later than 1.5 periods from now was scheduled for another
-- period, and moves to its first slot ≥ now + period / 2.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

local function slot_from(at_ms, period_ms, phase_ms)
  return at_ms + (phase_ms - at_ms) % period_ms
end

local outcomes = {}
for i = 1, #ARGV, 4 do
  local id, period_ms, phase_ms = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local outcome = 'kept'
  local due_ms = tonumber(redis.call('ZSCORE', KEYS[1], id) or nil)
  if due_ms then
    if due_ms > now_ms + period_ms * 1.5 then
      outcome = 'moved'
      redis.call('ZADD', KEYS[1], slot_from(now_ms + math.floor(period_ms / 2), period_ms, phase_ms), id)
    end
  elseif not redis.call('ZSCORE', KEYS[2], id) then
    outcome = 'added'
    redis.call('ZADD', KEYS[1], ARGV[i + 3] == 'now' and now_ms or slot_from(now_ms, period_ms, phase_ms), id)
  end
  outcomes[#outcomes + 1] = outcome
end
return outcomes
