-- A write that changes nothing, on the lease ZSET: a server that could only do half of what follows refuses it first.
-- Put before scripts whose KEYS[2] is the lease. So a replica, a full memory, a failed save or a wrong type is an error
-- of the whole call, and a claim that has nothing to do does not pass for one that works.
redis.call('ZADD', KEYS[2], 'XX', 'GT', '-inf', '')

