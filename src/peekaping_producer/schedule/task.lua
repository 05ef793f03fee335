-- The task of a monitor: what state it is in, and how it is replaced or removed. Prepended to settle.lua and remove.lua.
-- KEYS  1 due ZSET  2 lease ZSET  3 asynq queues SET  4 pending LIST  5 active LIST  6 asynq lease ZSET
--       7 scheduled  8 retry  9 archived  10 completed ZSETs  11 asynq workers ZSET  12… one task HASH for each id
-- ARGV  1 short_list: a pending list up to this length is searched whenever that helps  2 prefix of task ids
-- Beyond these it reads the workers' hashes that KEYS[11] names, and a group that a task names.
-- Keeps invariant 4: whatever became of the earlier task, the next one takes its place, or the earlier one still runs.
local FIRST_TASK = 12
local SHORT_LIST, TASK_PREFIX = tonumber(ARGV[1]), ARGV[2]
local MAX_WORKERS = 1000
local ORPHAN_AFTER_S = 2      -- a margin: asynq's leases are written by the workers' clocks
local STATES = {
  pending = true, active = true, scheduled = true, retry = true, archived = true, completed = true, aggregating = true,
}

-- as text: arithmetic would store 1.79e+18
local now_ns = string.format('%d%06d000', time[1], time[2])

local long_searches_left = 5  -- LREM takes 21 ms in a list of a million
local workers

local function pending_is_short()
  return redis.call('LLEN', KEYS[4]) <= SHORT_LIST
end

-- returns nil, a state of asynq's, or 'malformed'
local function found_at(key)
  if redis.call('EXISTS', key) == 0 then return nil end
  local state = redis.pcall('HGET', key, 'state')
  if type(state) ~= 'string' or not STATES[state] then return 'malformed' end
  if redis.call('HSTRLEN', key, 'msg') == 0 then return 'malformed' end
  return state
end

-- A worker's hash expires by this Redis' clock; its score in asynq:workers was written by the worker's own clock.
local function live_workers()
  local live = {}
  for _, worker in ipairs(redis.call('ZRANGE', KEYS[11], 0, MAX_WORKERS - 1, 'REV')) do
    if redis.call('EXISTS', worker) == 1 then live[#live + 1] = worker end
  end
  return live
end

local function listed_by_live_worker(task)
  workers = workers or live_workers()
  for _, worker in ipairs(workers) do
    if redis.pcall('HEXISTS', worker, task) == 1 then return true end
  end
  return false
end

local function still_runs(task)
  local lease_s = tonumber(redis.call('ZSCORE', KEYS[6], task) or nil)
  if lease_s and lease_s > now_ms / 1000 - ORPHAN_AFTER_S then return true end
  return listed_by_live_worker(task)
end

local function fill(key, message)
  redis.call('HSET', key, 'msg', message, 'state', 'pending', 'pending_since', now_ns)
end

local function enqueue(key, task, message)
  fill(key, message)
  redis.call('LPUSH', KEYS[4], task)
end

-- returns false if the search of a long list must wait for another call
local function remove_from_pending(task)
  if not pending_is_short() then
    if long_searches_left == 0 then return false end
    long_searches_left = long_searches_left - 1
  end
  redis.call('LREM', KEYS[4], 0, task)
  return true
end

local function remove_elsewhere(key, task, state, group_prefix)
  redis.call('LREM', KEYS[5], 0, task)
  for k = 6, 10 do redis.call('ZREM', KEYS[k], task) end
  if state == 'aggregating' then
    redis.call('ZREM', group_prefix .. (redis.call('HGET', key, 'group') or ''), task)
  end
  redis.call('DEL', key)
end

-- Puts a new message in place. Returns the outcome.
local function place(key, task, message, group_prefix)
  local state = found_at(key)
  if not state then
    enqueue(key, task, message)
    return 'enqueued'
  elseif state == 'pending' then
    if not pending_is_short() or redis.call('LPOS', KEYS[4], task) then
      redis.call('HSET', key, 'msg', message)
      return 'refreshed'
    end
    state = 'unlisted'
  elseif state == 'active' then
    if still_runs(task) then return 'running' end
    state = 'orphaned'
  elseif state == 'malformed' then
    if not remove_from_pending(task) then return 'postponed' end
  end
  remove_elsewhere(key, task, state, group_prefix)
  enqueue(key, task, message)
  return 'healed_' .. state
end

-- Takes a pending task back; one in any other state is not ours to touch.
local function withdraw(key, task, stale_message)
  if found_at(key) ~= 'pending' then return end
  if pending_is_short() then
    redis.call('LREM', KEYS[4], 0, task)
    redis.call('DEL', key)
  else
    redis.call('HSET', key, 'msg', stale_message)
  end
end
