-- Reclaim: put the claims that have ended, or lie absurdly far ahead, back into due. The only recovery from a dead node.
-- KEYS  1 due ZSET  2 lease ZSET
-- ARGV  1 limit, ids of each kind  2 lease_ms  3 far_ms
-- Returns how many were moved.
-- Keeps invariant 3. An ended claim comes back at about the instant it was made, so the oldest goes first and its
-- lateness shows; NX, so that a newer entry in due stands.

local ended = redis.call('ZRANGE', KEYS[2], '-inf', now_ms, 'BYSCORE', 'LIMIT', 0, ARGV[1], 'WITHSCORES')
for i = 1, #ended, 2 do
  redis.call('ZADD', KEYS[1], 'NX', as_score(ended[i + 1] - ARGV[2]), ended[i])
  redis.call('ZREM', KEYS[2], ended[i])
end

local far = redis.call('ZRANGE', KEYS[2], '(' .. now_ms + ARGV[3], '+inf', 'BYSCORE', 'LIMIT', 0, ARGV[1])
for _, id in ipairs(far) do
  redis.call('ZADD', KEYS[1], 'NX', as_score(now_ms), id)
  redis.call('ZREM', KEYS[2], id)
end
return #ended / 2 + #far
