-- Claim ids: move those of these monitors that are still due into the lease, as claim.lua does with the longest overdue.
-- KEYS  as in claim.lua, 1 to 5
-- ARGV  1 lease_ms  2 ids, separated by spaces: one argument costs a tenth of 200
-- Returns {now_ms, token, "1" beside a Go producer or "", then the ids that were not claimed}, all as text.
-- Keeps invariant 2, in the same way.

local wanted = {}
for id in string.gmatch(ARGV[2], '%S+') do wanted[#wanted + 1] = id end
local due = redis.call('ZMSCORE', KEYS[1], unpack(wanted))
local ids, leases, others = {}, {}, {}
local token = string.format('%.17g', now_ms + ARGV[1] + (redis.call('INCR', KEYS[3]) % 1023 + 1) / 1024)
for i = 1, #wanted do
  if due[i] and tonumber(due[i]) <= now_ms then
    ids[#ids + 1] = wanted[i]
    leases[#leases + 1] = token
    leases[#leases + 1] = wanted[i]
  else
    others[#others + 1] = wanted[i]
  end
end
if #ids > 0 then
  redis.call('ZREM', KEYS[1], unpack(ids))
  redis.call('ZADD', KEYS[2], unpack(leases))
end
return {string.format('%d', now_ms), #ids > 0 and token or '', beside_go(KEYS[4], KEYS[5]), unpack(others)}
