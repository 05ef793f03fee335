-- End a step of the clock: a sweep that began after it was noted has corrected the schedule. For the leader only.
-- KEYS  1 leader STRING  2 step HASH
-- ARGV  1 node id  2 noted_ms of the step
-- Returns 1, or 0 if another step was noted meanwhile; nothing at all if the node does not lead.
-- The key is kept, so that a node that notices the same step later does not note it again.
-- Keeps invariant 9.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
if redis.call('HGET', KEYS[2], 'noted_ms') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[2], 'swept', 1)
return 1
