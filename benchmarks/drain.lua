-- Drain: takes tasks from the queue and deletes them, as a worker does once it has run one.
-- KEYS  1 pending LIST  2 processed
-- ARGV  1 prefix of task hashes  2 how many at most
-- Returns the message and the pending_since of each, one after the other.
local ids = redis.call('RPOP', KEYS[1], ARGV[2])
local taken = {}
if not ids then
  return taken
end
for i, id in ipairs(ids) do
  local key = ARGV[1] .. id
  local task = redis.call('HMGET', key, 'msg', 'pending_since')
  redis.call('DEL', key)
  taken[2 * i - 1], taken[2 * i] = task[1], task[2]
end
redis.call('INCRBY', KEYS[2], #ids)
return taken
