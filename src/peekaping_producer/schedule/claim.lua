-- Claim: move what is due into the lease, under a fencing token that no other claim bears.
-- KEYS  1 due ZSET  2 lease ZSET  3 counter of claims  4 mark of a Go producer  5 leader STRING
-- ARGV  1 limit, ids  2 lease_ms
-- Returns {now_ms, token, next_due_ms or "", 1 while the mark stands or a Go node leads, id, due_ms, id, due_ms, …}, all as text; token ""
-- when nothing is due.
-- Keeps invariant 2: the token is the lease's own score. Whole milliseconds are not unique, so the counter is their
-- fraction: exact in a double, a plain lease to a Go node, and never 0 (invariant 11).

local claimed = redis.call('ZRANGE', KEYS[1], '-inf', now_ms, 'BYSCORE', 'LIMIT', 0, ARGV[1], 'WITHSCORES')
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

local soonest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
-- a Go node's id ends in digits
local leader = redis.call('GET', KEYS[5])
local beside_go = redis.call('EXISTS', KEYS[4]) == 1 or leader and string.find(leader, '%-%d+$')
return {string.format('%d', now_ms), token, soonest[2] or '', beside_go and '1' or '', unpack(claimed)}
