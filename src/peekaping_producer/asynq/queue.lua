-- Queue: what is in the workers' queue, how many servers take from it, and which task has waited longest. Changes nothing.
-- KEYS  1 paused STRING  2 pending LIST  3 active LIST  4 scheduled  5 retry  6 archived  7 completed ZSETs  8 servers ZSET
-- ARGV  1 prefix of task keys  2 limit, servers
-- Beyond these it reads the records that KEYS[8] names, and the hash of the oldest pending task.
-- Returns {now_s, 1 if paused, the lengths of KEYS 2 to 7, {pending_since, msg} of the oldest or nothing, {record, …}}.
local reply = {tonumber(redis.call('TIME')[1]), redis.call('EXISTS', KEYS[1])}
for k = 2, 3 do reply[#reply + 1] = redis.call('LLEN', KEYS[k]) end
for k = 4, 7 do reply[#reply + 1] = redis.call('ZCARD', KEYS[k]) end

local oldest = redis.call('LINDEX', KEYS[2], -1)
local fields = oldest and redis.pcall('HMGET', ARGV[1] .. oldest, 'pending_since', 'msg')
reply[#reply + 1] = fields and not fields.err and fields

-- The scores are written by the workers' clocks; their records expire by Redis' clock.
local records = {}
for _, server in ipairs(redis.call('ZREVRANGE', KEYS[8], 0, ARGV[2] - 1)) do
  local record = redis.pcall('GET', server)
  if type(record) == 'string' then records[#records + 1] = record end
end
reply[#reply + 1] = records
return reply
