-- Claim ids: move those of these ids that are still due into the lease, as claim.lua does with what is due first.
-- KEYS  as in claim.lua
-- ARGV  1 lease_ms  2 ids, a space between them: one argument costs a tenth of 200
-- Returns {now_ms, token, 1 while the mark is there or a Go node leads, then the ids that were not claimed}, all as text.
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

-- a Go node's id ends in digits
local leader = redis.call('GET', KEYS[5])
local beside_go = redis.call('EXISTS', KEYS[4]) == 1 or leader and string.find(leader, '%-%d+$')
return {string.format('%d', now_ms), #ids > 0 and token or '', beside_go and '1' or '', unpack(others)}
