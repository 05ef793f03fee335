-- Set inactive: write the record of a node that makes no checks, since it has stopped or is not ready yet.
-- KEYS  1 nodes ZSET  2 the node's STRING  3 nodes with a healthy database, ZSET  4 inactive nodes ZSET
-- ARGV  1 node id  2 its record, JSON  3 kept_ms, how long it is kept
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', KEYS[4], now_ms + ARGV[3], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now_ms)
return 1
