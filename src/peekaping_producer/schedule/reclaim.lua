-- Reclaim: put expired claims back into due, and claims absurdly far ahead. The only recovery from a dead node.
-- KEYS  1 due ZSET  2 lease ZSET
-- ARGV  1 limit, ids of each kind  2 lease_ms  3 far_ms
-- Returns how many were moved.
-- Keeps invariant 3. An expired claim is due again as of about the instant when it was made, so that the oldest goes first
-- and its lateness shows. NX: a newer entry in due has precedence.

local expired = redis.call('ZRANGE', KEYS[2], '-inf', now_ms, 'BYSCORE', 'LIMIT', 0, ARGV[1], 'WITHSCORES')
for i = 1, #expired, 2 do
  redis.call('ZADD', KEYS[1], 'NX', as_score(expired[i + 1] - ARGV[2]), expired[i])
  redis.call('ZREM', KEYS[2], expired[i])
end

local far = redis.call('ZRANGE', KEYS[2], '(' .. now_ms + ARGV[3], '+inf', 'BYSCORE', 'LIMIT', 0, ARGV[1])
for _, id in ipairs(far) do
  redis.call('ZADD', KEYS[1], 'NX', as_score(now_ms), id)
  redis.call('ZREM', KEYS[2], id)
end
return #expired / 2 + #far
