-- Run now: make active monitors due at once. Their grids stay: the next slot is chosen when they are settled.
-- KEYS  1 due ZSET  2 lease ZSET
-- ARGV  1 channel of signals, then ids
-- Returns for each id: 1 if it is due now, 0 if a node has claimed it and it was left alone.
local outcomes, any = {}, false
for i = 2, #ARGV do
  local mine = not redis.call('ZSCORE', KEYS[2], ARGV[i])
  if mine then redis.call('ZADD', KEYS[1], 'LT', as_score(now_ms), ARGV[i]) end
  any = any or mine
  outcomes[#outcomes + 1] = mine and 1 or 0
end
if any then redis.call('PUBLISH', ARGV[1], 'due') end
return outcomes
