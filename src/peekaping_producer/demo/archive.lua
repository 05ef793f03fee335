-- Archive: a task that failed and is not retried goes from active to the archive, which is limited in length and age.
-- KEYS  1 active LIST  2 lease ZSET  3 archived ZSET  4 processed  5 processed of the day  6 failed  7 failed of the day
--       8 the task's HASH
-- ARGV  1 id  2 message with its error  3 now, Unix s  4 end of the day's counters, Unix s  5 oldest to keep, Unix s
--       6 most to keep  7 prefix of task hashes
-- Returns 1, or 0 if it was no longer active: then nothing changes.
if redis.call('LREM', KEYS[1], 0, ARGV[1]) == 0 then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[1])
redis.call('HSET', KEYS[8], 'msg', ARGV[2], 'state', 'archived')

local function forget(ids)
  for _, id in ipairs(ids) do
    redis.call('DEL', ARGV[7] .. id)
    redis.call('ZREM', KEYS[3], id)
  end
end
forget(redis.call('ZRANGE', KEYS[3], '-inf', ARGV[5], 'BYSCORE', 'LIMIT', 0, 1000))
forget(redis.call('ZRANGE', KEYS[3], 0, -1 - ARGV[6]))

for k = 4, 7 do redis.call('INCR', KEYS[k]) end
redis.call('EXPIREAT', KEYS[5], ARGV[4])
redis.call('EXPIREAT', KEYS[7], ARGV[4])
return 1
