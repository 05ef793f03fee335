-- Pause: no node claims anything until a set time. The key expires then, so no pause lasts longer than it was set for.
-- KEYS  1 pause HASH
-- ARGV  1 for_ms  2 reason  3 by  4 channel of signals
-- Returns the pause, and the one that it replaces, as paused.lua does. The two count as one: since_ms stays.
local before = pause_in(KEYS[1])
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'since_ms', before[1] or now_ms, 'until_ms', now_ms + ARGV[1], 'reason', ARGV[2], 'by', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('PUBLISH', ARGV[4], 'pause')
return {pause_in(KEYS[1]), before}
