-- Relist: put tasks that say they wait, but stand in no list, back into it. The leader's alone, and only while the list is
-- too long for settle to look.
-- KEYS  1 leader STRING  2 pending LIST, then one task HASH for each id
-- ARGV  1 node id  2 a list up to here is settle's to search  3 margin_ns, by which clocks may differ, then task ids
-- Returns how many; nothing at all when the node does not lead.
-- Keeps invariants 4 and 9. The list is in the order of `pending_since`, so what is older than its oldest is not in it.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
if redis.call('LLEN', KEYS[2]) <= tonumber(ARGV[2]) then return 0 end
local prefix = string.sub(KEYS[3], 1, #KEYS[3] - #ARGV[4])
local oldest = redis.call('LINDEX', KEYS[2], -1)
local oldest_ns = tonumber(redis.call('HGET', prefix .. oldest, 'pending_since') or nil)
-- one that a worker gave back stands at the end without the time
if not oldest_ns then return 0 end

local relisted = 0
for i = 3, #KEYS do
  local fields = redis.pcall('HMGET', KEYS[i], 'state', 'pending_since')
  local since_ns = fields[1] == 'pending' and tonumber(fields[2] or nil)
  if since_ns and since_ns < oldest_ns - ARGV[3] then
    redis.call('RPUSH', KEYS[2], ARGV[i + 1])
    relisted = relisted + 1
  end
end
return relisted
