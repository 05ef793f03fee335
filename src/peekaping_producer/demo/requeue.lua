-- Requeue: a worker that stops puts a running task back, to be taken next.
-- KEYS  1 active LIST  2 lease ZSET  3 pending LIST  4 the task's HASH
-- ARGV  1 id
-- Returns 1, or 0 if it was no longer active: then nothing changes.
if redis.call('LREM', KEYS[1], 0, ARGV[1]) == 0 then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('RPUSH', KEYS[3], ARGV[1])
redis.call('HSET', KEYS[4], 'state', 'pending')
return 1
