-- Done: tasks that succeeded are removed everywhere, and counted.
-- KEYS  1 active LIST  2 lease ZSET  3 processed  4 processed of the day
-- ARGV  1 end of the day's counter, Unix s  2 prefix of task hashes  3… task ids
-- Returns how many were still active; any other was lost, and is left alone.
local done = 0
for i = 3, #ARGV do
  if redis.call('LREM', KEYS[1], 0, ARGV[i]) > 0 then
    redis.call('ZREM', KEYS[2], ARGV[i])
    redis.call('DEL', ARGV[2] .. ARGV[i])
    done = done + 1
  end
end
if done > 0 then
  redis.call('INCRBY', KEYS[3], done)
  redis.call('INCRBY', KEYS[4], done)
  redis.call('EXPIREAT', KEYS[4], ARGV[1])
end
return done
