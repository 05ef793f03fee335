-- Epoch: read the mark of this Redis' data, and set it where there is none.
-- KEYS  1 epoch STRING
-- ARGV  1 a fresh value
-- Returns the value that stands. Another one than last time means that Redis lost its data in between.
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.call('GET', KEYS[1])
