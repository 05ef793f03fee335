-- A write that changes nothing, on the lease ZSET. Prepended to scripts whose KEYS[2] is the lease: a replica, a full memory, a
-- failed save or a wrong type then fails the whole call before its first real write, even if a claim finds nothing due.
redis.call('ZADD', KEYS[2], 'XX', 'GT', '-inf', '')
