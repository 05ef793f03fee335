-- Remove: take monitors out of the schedule. Their claims are lost, and their pending tasks are removed. For the leader only.
-- KEYS  as in task.lua, then 1 counter of monitors that left  2 leader STRING  3 tombstones ZSET
-- ARGV  as in task.lua, then 3 node id  4 tombstone_ms, how long a tombstone is kept
--       then two for each id: id, stale message (replaces the task's own if the list is too long to search)
-- Returns how many were in the schedule; nothing at all if the node does not lead.
-- Keeps invariants 2 (the lease is removed first, so a later settle changes nothing) and 9 (the check of the leader).
local leader, tombstones = KEYS[#KEYS - 1], KEYS[#KEYS]
if redis.call('GET', leader) ~= ARGV[3] then return false end
redis.call('ZREMRANGEBYSCORE', tombstones, '-inf', now_ms - ARGV[4])
local removed = 0
for i = 5, #ARGV, 2 do
  local id = ARGV[i]
  local leased = redis.call('ZREM', KEYS[2], id)
  local due = redis.call('ZREM', KEYS[1], id)
  removed = removed + math.max(leased, due)
  redis.call('ZADD', tombstones, now_ms, id)
  withdraw(KEYS[FIRST_TASK + (i - 5) / 2], TASK_PREFIX .. id, ARGV[i + 1])
end
if removed > 0 then redis.pcall('INCRBY', KEYS[#KEYS - 2], removed) end
return removed
