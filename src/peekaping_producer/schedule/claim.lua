-- Claim: move due monitors into the lease, under a fencing token that no other claim has.
-- KEYS  1 due ZSET  2 lease ZSET  3 counter of claims  4 mark of a Go producer  5 leader STRING  6 step HASH
--       7 pause HASH
-- ARGV  1 limit, ids  2 lease_ms  3 horizon_ms: what Redis' clock shows if it was not stepped, by the node's own; or ""
-- Returns {now_ms, token, next_due_ms or "", "1" beside a Go producer or "", by_ms of an open step forward or "",
-- the pause as in paused.lua, id, due_ms, id, due_ms, …}, all as text; token "" if nothing is due,
-- or checks are paused.
-- Keeps invariant 2 (lease.lua).
-- Nothing beyond the horizon is claimed (invariant 8): a step forward makes all monitors overdue at once. Until the leader has
-- swept after a step, what was due before the step is claimed when it would be due without the step.

local limit = tonumber(ARGV[1])
local until_ms = ARGV[3] == '' and now_ms or math.min(now_ms, ARGV[3])
local step_at_ms, by_ms = open_step_forward(KEYS[6])

local function due(from, to_ms, most)
  return redis.call('ZRANGE', KEYS[1], from, to_ms, 'BYSCORE', 'LIMIT', 0, most, 'WITHSCORES')
end

local pause = pause_in(KEYS[7])
local claimed
if #pause > 0 then
  claimed = {}
elseif step_at_ms then
  claimed = due('-inf', math.min(until_ms, now_ms - by_ms), limit)
  if #claimed < 2 * limit then
    for _, part in ipairs(due('(' .. step_at_ms, until_ms, limit - #claimed / 2)) do claimed[#claimed + 1] = part end
  end
else
  claimed = due('-inf', until_ms, limit)
end

local ids = {}
for i = 1, #claimed, 2 do ids[#ids + 1] = claimed[i] end
local token = lease(ids, ARGV[2])

local function soonest()
  if not step_at_ms then return redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] end
  local before, after = due('-inf', step_at_ms, 1)[2], due('(' .. step_at_ms, '+inf', 1)[2]
  if before then before = before + by_ms end
  if before and after then return string.format('%.17g', math.min(before, after)) end
  return before and string.format('%.17g', before) or after
end

local stepped = by_ms and string.format('%d', by_ms) or ''
return {string.format('%d', now_ms), token, soonest() or '', beside_go(KEYS[4], KEYS[5]), stepped, pause, unpack(claimed)}
