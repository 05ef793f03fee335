-- Register: write that a node is alive and whether its database is available, and forget nodes that died long ago.
-- KEYS  1 nodes ZSET  2 the node's STRING  3 nodes with a healthy database, ZSET
-- ARGV  1 node id  2 its record, JSON  3 alive_ms, how long it counts as alive  4 gone_ms, how long it is then shown as gone
--       5 "healthy", or "" while its database is unavailable
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3] + ARGV[4])
redis.call('ZADD', KEYS[1], now_ms + ARGV[3], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now_ms - ARGV[4])
if ARGV[5] == '' then
  redis.call('ZREM', KEYS[3], ARGV[1])
else
  redis.call('ZADD', KEYS[3], now_ms + ARGV[3], ARGV[1])
end
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now_ms)
return 1
