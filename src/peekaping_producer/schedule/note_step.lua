-- Note a step of the clock for all nodes, once, however many of them notice it.
-- KEYS  1 step HASH  2 leader STRING  3 mark of a Go producer  4 tombstones ZSET  5 nodes ZSET
--       6 nodes with a healthy database, ZSET  7 pause HASH
-- ARGV  1 at_ms, the last instant this node saw before the step, by the clock as it is now  2 by_ms, negative if back
--       3 open_ms, how long the step counts at most  4 channel of signals  5 longest_term_ms  6 go_seen_ms
--       7 alive_ms of a node  8 limit, members of a set
-- Returns 1, or 0 if another node has noted it already.
-- After a step back, everything that expires would last longer by as much, so it is shortened to its normal time.
local noted = redis.pcall('HMGET', KEYS[1], 'noted_ms', 'by_ms')
if noted[1] then
  local noted_ms, same_way = tonumber(noted[1]), (tonumber(noted[2]) > 0) == (tonumber(ARGV[2]) > 0)
  if same_way and noted_ms >= tonumber(ARGV[1]) and noted_ms <= now_ms then return 0 end
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'at_ms', ARGV[1], 'by_ms', ARGV[2], 'noted_ms', now_ms, 'until_ms', now_ms + ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[3])

local function shorten(key, longest_ms)
  if redis.call('PTTL', key) > tonumber(longest_ms) then redis.call('PEXPIRE', key, longest_ms) end
end
local function bring_back(key, latest_ms)
  for _, member in ipairs(redis.call('ZRANGE', key, '(' .. latest_ms, '+inf', 'BYSCORE', 'LIMIT', 0, ARGV[8])) do
    redis.call('ZADD', key, latest_ms, member)
  end
end
local function shorten_pause(key)
  local pause = redis.pcall('HMGET', key, 'since_ms', 'until_ms')
  local since_ms, until_ms = tonumber(pause[1] or nil), tonumber(pause[2] or nil)
  if not (since_ms and until_ms) or until_ms - now_ms <= until_ms - since_ms then return end
  redis.call('HSET', key, 'since_ms', now_ms, 'until_ms', now_ms + until_ms - since_ms)
  redis.call('PEXPIRE', key, until_ms - since_ms)
end
if tonumber(ARGV[2]) < 0 then
  shorten_pause(KEYS[7])
  shorten(KEYS[2], ARGV[5])
  shorten(KEYS[3], ARGV[6])
  bring_back(KEYS[4], now_ms)
  bring_back(KEYS[5], now_ms + ARGV[7])
  bring_back(KEYS[6], now_ms + ARGV[7])
end
redis.call('PUBLISH', ARGV[4], 'clock')
return 1
