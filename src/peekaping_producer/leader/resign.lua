-- Resign: end our term now, if it is still ours, and wake the other nodes.
-- KEYS  1 leader STRING  2 nodes with a healthy database, ZSET
-- ARGV  1 node id  2 channel of signals  3 "to a healthy node" to resign only if there is another one, or ""
-- Returns 1 if the term was ours and has ended, otherwise 0.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[3] ~= '' and not others_healthy(KEYS[2], ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[2], 'vacant')
return 1
