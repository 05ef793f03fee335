-- Claim ids: move those of these ids that are still due into the lease, as claim.lua does with what is due first.
-- KEYS  as in claim.lua
-- ARGV  1 lease_ms, then ids
-- Returns {now_ms, token, 1 while the mark is there or a Go node leads, then the ids that were not claimed}, all as text.
-- Keeps invariant 2, in the same way.

local wanted = {unpack(ARGV, 2)}
local due = redis.call('ZMSCORE', KEYS[1], unpack(wanted))
local ids, others = {}, {}
for i, id in ipairs(wanted) do
  local mine = due[i] and tonumber(due[i]) <= now_ms
  local list = mine and ids or others
  list[#list + 1] = id
end

local token = ''
if #ids > 0 then
  local n = redis.call('INCR', KEYS[3])
  token = string.format('%.17g', now_ms + ARGV[1] + (n % 1023 + 1) / 1024)
  local leases = {}
  for _, id in ipairs(ids) do
    leases[#leases + 1] = token
    leases[#leases + 1] = id
  end
  redis.call('ZREM', KEYS[1], unpack(ids))
  redis.call('ZADD', KEYS[2], unpack(leases))
end

-- a Go node's id ends in digits
local leader = redis.call('GET', KEYS[5])
local beside_go = redis.call('EXISTS', KEYS[4]) == 1 or leader and string.find(leader, '%-%d+$')
return {string.format('%d', now_ms), token, beside_go and '1' or '', unpack(others)}
