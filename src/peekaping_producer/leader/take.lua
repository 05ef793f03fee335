-- Take: begin a term, or go on with one that is ours already.
-- KEYS  1 leader STRING  2 epoch STRING  3 mark of a Go producer  4 due ZSET  5 lease ZSET
--       6 nodes with a healthy database, ZSET  7 counter of monitors that left
-- ARGV  1 node id  2 term_ms  3 the new term's token  4 longest_ms that another's term may last  5 go_seen_ms
--       6 "unhealthy" while this node's database is unavailable, or ""
-- Returns one of
--   {"", 0, the previous epoch, monitors in the schedule, generation, monitors that left so far}: the term is ours
--   {"", 1, the epoch}: nobody leads, and the term is left to a node with a healthy database
--   {the leader's node id, ms until its term expires, the epoch}
-- An epoch is "" if there is none.
-- A generation is Redis' time, Unix ms, and more than the last one: an epoch lower than one seen before shows that Redis lost
-- data, even if it was flushed in between.
-- A Go node that leads sets no mark of its own, so this script sets it, for all nodes to see.
local holder = redis.call('GET', KEYS[1])
local epoch = redis.call('GET', KEYS[2]) or ''
if not holder or holder == ARGV[1] then
  if ARGV[6] ~= '' and others_healthy(KEYS[6], ARGV[1]) then
    if holder then redis.call('DEL', KEYS[1]) end
    return {'', 1, epoch}
  end
  local generation = math.max(now_ms, (tonumber(string.match(epoch, '^(%d+):')) or 0) + 1)
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  redis.call('SET', KEYS[2], string.format('%d:%s:0', generation, ARGV[3]))
  return {'', 0, epoch, redis.call('ZCARD', KEYS[4]) + redis.call('ZCARD', KEYS[5]), generation, left_so_far(KEYS[7])}
end
if is_go_node(holder) then redis.call('SET', KEYS[3], 1, 'PX', ARGV[5]) end
local left_ms = redis.call('PTTL', KEYS[1])
local longest_ms = tonumber(ARGV[4])
if left_ms < 0 or left_ms > longest_ms then
  -- without an expiry, or after a step back of Redis' clock, a dead holder would keep others from leading
  left_ms = longest_ms
  redis.call('PEXPIRE', KEYS[1], left_ms)
end
return {holder, left_ms, epoch}
