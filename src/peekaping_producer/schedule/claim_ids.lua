-- Claim ids: move those of these monitors that are still due into the lease, as claim.lua does with the longest overdue.
-- KEYS  as in claim.lua, 1 to 5, then 6 pause HASH
-- ARGV  1 lease_ms  2 ids, separated by spaces: one argument costs a tenth of what 200 cost
-- Returns {now_ms, token, "1" beside a Go producer or "", the pause as in paused.lua, then the ids that were not claimed},
-- all as text.
-- Keeps invariant 2 (lease.lua).

local wanted = {}
for id in string.gmatch(ARGV[2], '%S+') do wanted[#wanted + 1] = id end
local due = redis.call('ZMSCORE', KEYS[1], unpack(wanted))
local pause = pause_in(KEYS[6])
local ids, others = {}, {}
for i = 1, #wanted do
  if #pause == 0 and due[i] and tonumber(due[i]) <= now_ms then
    ids[#ids + 1] = wanted[i]
  else
    others[#others + 1] = wanted[i]
  end
end
local token = lease(ids, ARGV[1])
return {string.format('%d', now_ms), token, beside_go(KEYS[4], KEYS[5]), pause, unpack(others)}
