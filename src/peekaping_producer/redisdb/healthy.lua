-- Returns whether a live node other than this one has a healthy database, by the ZSET of such nodes. Prepended after time.lua.
local function others_healthy(key, own_id)
  for _, id in ipairs(redis.call('ZRANGE', key, '(' .. now_ms, '+inf', 'BYSCORE', 'LIMIT', 0, 2)) do
    if id ~= own_id then return true end
  end
  return false
end
