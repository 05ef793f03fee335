-- Moves ids from due into the lease, under a fencing token that no other claim has. Prepended after time.lua, to the scripts that
-- claim: KEYS  1 due ZSET  2 lease ZSET  3 counter of claims.
-- Returns the token, "" if there are no ids.
-- Keeps invariant 2: the token is the lease's own score. Whole milliseconds are not unique, so the counter is their
-- fraction: exact in a double, an ordinary lease to a Go node, and never 0 (invariant 11).
local function lease(ids, lease_ms)
  if #ids == 0 then return '' end
  local n = redis.call('INCR', KEYS[3])
  local token = string.format('%.17g', now_ms + lease_ms + (n % 1023 + 1) / 1024)
  local leases = {}
  for i = 1, #ids do
    leases[2 * i - 1] = token
    leases[2 * i] = ids[i]
  end
  redis.call('ZREM', KEYS[1], unpack(ids))
  redis.call('ZADD', KEYS[2], unpack(leases))
  return token
end
