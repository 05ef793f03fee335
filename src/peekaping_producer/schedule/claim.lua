-- Claim: move what is due into the lease, under a fencing token that no other claim bears.
-- KEYS  1 due ZSET  2 lease ZSET  3 counter of claims  4 mark of a Go producer  5 leader STRING  6 step HASH
-- ARGV  1 limit, ids  2 lease_ms  3 horizon_ms, what Redis' clock shows by the node's own if it was not stepped, or ""
-- Returns {now_ms, token, next_due_ms or "", 1 while the mark stands or a Go node leads, by_ms of an open step forward or "",
-- id, due_ms, id, due_ms, …}, all as text; token "" when nothing is due.
-- Keeps invariant 2: the token is the lease's own score. Whole milliseconds are not unique, so the counter is their
-- fraction: exact in a double, a plain lease to a Go node, and never 0 (invariant 11).
-- Nothing beyond the horizon is claimed: after a step forward all monitors are overdue, and would be claimed at once.
-- After one, what was due before it is claimed when it would have been due without it, until the leader has swept.

local limit = tonumber(ARGV[1])
local until_ms = ARGV[3] == '' and now_ms or math.min(now_ms, ARGV[3])
local step_at_ms, by_ms = open_step(KEYS[6])
if step_at_ms and (by_ms < 0 or now_ms - by_ms >= step_at_ms) then step_at_ms, by_ms = nil, nil end

local function due(from, to_ms, most)
  return redis.call('ZRANGE', KEYS[1], from, to_ms, 'BYSCORE', 'LIMIT', 0, most, 'WITHSCORES')
end

local claimed
if step_at_ms then
  claimed = due('-inf', math.min(until_ms, now_ms - by_ms), limit)
  if #claimed < 2 * limit then
    for _, part in ipairs(due('(' .. step_at_ms, until_ms, limit - #claimed / 2)) do claimed[#claimed + 1] = part end
  end
else
  claimed = due('-inf', until_ms, limit)
end

local token = ''
if #claimed > 0 then
  local n = redis.call('INCR', KEYS[3])
  token = string.format('%.17g', now_ms + ARGV[2] + (n % 1023 + 1) / 1024)
  local ids, leases = {}, {}
  for i = 1, #claimed, 2 do
    ids[#ids + 1] = claimed[i]
    leases[#leases + 1] = token
    leases[#leases + 1] = claimed[i]
  end
  redis.call('ZREM', KEYS[1], unpack(ids))
  redis.call('ZADD', KEYS[2], unpack(leases))
end

local function soonest()
  if not step_at_ms then return redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] end
  local before, after = due('-inf', step_at_ms, 1)[2], due('(' .. step_at_ms, '+inf', 1)[2]
  if before then before = before + by_ms end
  if before and after then return string.format('%.17g', math.min(before, after)) end
  return before and string.format('%.17g', before) or after
end

-- a Go node's id ends in digits
local leader = redis.call('GET', KEYS[5])
local beside_go = redis.call('GET', KEYS[4]) or leader and string.find(leader, '%-%d+$')
local stepped = by_ms and string.format('%d', by_ms) or ''
return {string.format('%d', now_ms), token, soonest() or '', beside_go and '1' or '', stepped, unpack(claimed)}
