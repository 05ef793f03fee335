-- Relist: put tasks that are marked as pending but are in no list back into it. For the leader only, and only while the list
-- is too long for settle to search.
-- KEYS  1 leader STRING  2 pending LIST, then one task HASH for each id
-- ARGV  1 node id  2 short_list, as in task.lua  3 margin_ns, by which clocks may differ
--       4 searches of the list, at most  5 list entries that all searches may pass, at most; then task ids
-- Returns how many; nothing at all if the node does not lead.
-- Keeps invariants 4 and 9. The list is in the order of `pending_since`, so a task older than its oldest is not in it
-- unless Redis' clock was stepped. So each such task is searched for first; what exceeds the limits waits for the next sweep.
local OLDEST = 100
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
local length = redis.call('LLEN', KEYS[2])
if length <= tonumber(ARGV[2]) then return 0 end

-- The oldest are at the end of the list. One task that was put back, by us or by a worker, says nothing about the others.
local prefix = string.sub(KEYS[3], 1, #KEYS[3] - #ARGV[6])
local seen, oldest_ns = {}, nil
for _, task in ipairs(redis.call('LRANGE', KEYS[2], -OLDEST, -1)) do
  seen[task] = true
  local since_ns = tonumber(redis.pcall('HGET', prefix .. task, 'pending_since') or nil)
  if since_ns and since_ns > (oldest_ns or 0) then oldest_ns = since_ns end
end
if not oldest_ns then return 0 end

local searches_left = math.max(1, math.min(ARGV[4], math.floor(ARGV[5] / length)))
local relisted = 0
for i = 3, #KEYS do
  local task = ARGV[i + 3]
  local fields = redis.pcall('HMGET', KEYS[i], 'state', 'pending_since')
  local since_ns = fields[1] == 'pending' and tonumber(fields[2] or nil)
  if since_ns and since_ns < oldest_ns - ARGV[3] and not seen[task] then
    if searches_left == 0 then break end
    searches_left = searches_left - 1
    if not redis.call('LPOS', KEYS[2], task) then
      redis.call('RPUSH', KEYS[2], task)
      relisted = relisted + 1
    end
  end
end
return relisted
