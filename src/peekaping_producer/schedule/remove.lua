-- Remove: take monitors out of the schedule; claims in flight become lost, and pending tasks go too. The leader's alone.
-- KEYS  as in task.lua, then 1 counter of monitors that left  2 leader STRING  3 tombstones ZSET
-- ARGV  1 node id  2 prefix of task ids  3 tombstone_ms, how long one stands, then two for each id: id, stale message (put
--       in place where the list is too long to search)
-- Returns how many were in the schedule; nothing at all when the node does not lead.
-- Keeps invariants 2 (the lease goes first of all, so a settle that comes later changes nothing) and 9 (fence).
local leader, tombstones = KEYS[#KEYS - 1], KEYS[#KEYS]
if redis.call('GET', leader) ~= ARGV[1] then return false end
redis.call('ZREMRANGEBYSCORE', tombstones, '-inf', now_ms - ARGV[3])
local removed = 0
for i = 4, #ARGV, 2 do
  local id = ARGV[i]
  local leased = redis.call('ZREM', KEYS[2], id)
  local due = redis.call('ZREM', KEYS[1], id)
  removed = removed + math.max(leased, due)
  redis.call('ZADD', tombstones, now_ms, id)
  withdraw(KEYS[FIRST_TASK + i / 2 - 2], ARGV[2] .. id, ARGV[i + 1])
end
if removed > 0 then redis.pcall('INCRBY', KEYS[#KEYS - 2], removed) end
return removed
