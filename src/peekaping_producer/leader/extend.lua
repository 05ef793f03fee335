-- Extend: let our term last from now on, if it is still ours, and write the next epoch.
-- KEYS  1 leader STRING  2 epoch STRING  3 due ZSET  4 lease ZSET  5 counter of monitors that left
-- ARGV  1 node id  2 term_ms  3 the next epoch
-- Returns {the previous epoch or "", monitors in due, monitors claimed, monitors that left so far}, -1 for a key of the wrong
-- type; nothing at all if the term is not ours.
-- Keeps invariant 9: only the node in the leader key extends its term.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local before = redis.call('GET', KEYS[2])
redis.call('SET', KEYS[2], ARGV[3])

local function size_of(key)
  local size = redis.pcall('ZCARD', key)
  return type(size) == 'number' and size or -1
end
return {before or '', size_of(KEYS[3]), size_of(KEYS[4]), left_so_far(KEYS[5])}
