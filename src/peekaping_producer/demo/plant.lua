-- Plant: leave an archived task at a free id, as a failed check does. An existing task is left alone.
-- KEYS  1 archived ZSET  2 the task's HASH
-- ARGV  1 id  2 message  3 now, Unix s
-- Returns 1 if it was planted, else 0.
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('HSET', KEYS[2], 'msg', ARGV[2], 'state', 'archived')
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
return 1
