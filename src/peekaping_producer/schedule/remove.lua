-- Remove: take monitors out of the schedule; claims in flight become lost, and pending tasks go too.
-- KEYS  as in task.lua
-- ARGV  1 prefix of task ids, then two for each id: id, stale message (put in place where the list is too long to search)
-- Returns how many were in the schedule.
-- Keeps invariant 2: the lease goes first of all, so a settle that comes later changes nothing.
local removed = 0
for i = 2, #ARGV, 2 do
  local id = ARGV[i]
  local leased = redis.call('ZREM', KEYS[2], id)
  local due = redis.call('ZREM', KEYS[1], id)
  removed = removed + math.max(leased, due)
  withdraw(KEYS[FIRST_TASK + i / 2 - 1], ARGV[1] .. id, ARGV[i + 1])
end
return removed
