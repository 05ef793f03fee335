-- Resume: end the pause before its time, and wake all nodes.
-- KEYS  1 pause HASH
-- ARGV  1 channel of signals
-- Returns the pause that was ended, as paused.lua does.
local before = pause_in(KEYS[1])
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[1], 'pause')
return before
