-- Resign: end our term now, if it is still ours, and wake the other nodes.
-- KEYS  1 leader STRING
-- ARGV  1 node id  2 channel of signals
-- Returns 1 when it was ours.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[2], 'vacant')
return 1
