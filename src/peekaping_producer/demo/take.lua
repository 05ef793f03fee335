-- Take: move tasks from pending to active, oldest first, each with a lease; nothing while the queue is paused.
-- KEYS  1 pending LIST  2 paused STRING  3 active LIST  4 lease ZSET
-- ARGV  1 lease end, Unix s  2 prefix of task hashes, followed by a task's id  3 most to take
-- Returns id, message, id, message …
-- An id without a hash or message is not a task: it is removed from the lists and ignored.
local taken = {}
if redis.call('EXISTS', KEYS[2]) == 1 then return taken end
for _ = 1, tonumber(ARGV[3]) do
  local id = redis.call('RPOPLPUSH', KEYS[1], KEYS[3])
  if not id then break end
  local key = ARGV[2] .. id
  local message = redis.call('HGET', key, 'msg')
  if message then
    redis.call('HSET', key, 'state', 'active')
    redis.call('HDEL', key, 'pending_since')
    redis.call('ZADD', KEYS[4], ARGV[1], id)
    taken[#taken + 1] = id
    taken[#taken + 1] = message
  else
    redis.call('LREM', KEYS[3], 0, id)
  end
end
return taken
