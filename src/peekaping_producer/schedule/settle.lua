-- Settle: end the claims of one batch. Each id by itself: if the claim is still ours its order is carried out, else nothing
-- changes.
-- KEYS  as in task.lua, then 1 counter of monitors that left  2 tombstones ZSET
-- ARGV  as in task.lua, then 3 token  4 queue's name  5 prefix of groups  6 postpone_ms  7 channel of signals
--       then five for each id: order, id, and by order
--         enqueue  period_ms  phase_ms  message     the task is put in place, the next slot into due
--         cached   likewise                         the same, but a drop if there is a tombstone: its row was read earlier
--         release  delay_ms   ""        ""          back into due after the delay, no task
--         drop     ""         ""        message     out of the schedule; a pending task is removed, or gets this stale message
-- Returns now_ms, then one outcome for each id (observe/outcomes.py); `failed:` and the reason if its step raised an error.
-- Keeps invariants 1 (next slot ≥ now + period / 2, by this script's clock), 2 (the check of the token), 3 (an order ends its
-- claim), 4 (task.lua), 7 (pcall) and 12 (tombstones).
-- What most batches hold is done for many ids together, and the rest one by one.
local FIRST_ORDER, PARTS = 8, 5
local token = tonumber(ARGV[3])
local outcomes = {}
local queue_is_known = false
-- in neither set, though nobody removed it: the leader sweeps, to see whether more is missing
local vanished = false
local left = 0

local function announce_queue()
  if queue_is_known then return end
  redis.call('SADD', KEYS[3], ARGV[4])
  queue_is_known = true
end

local function next_slot(period_ms, phase_ms)  -- invariant 1
  local earliest = now_ms + math.floor(period_ms / 2)
  return earliest + (phase_ms - earliest) % period_ms
end

-- Returns by place which claims are still ours, and have an order to enqueue a task where there is none.
local function found_plain()
  local ids, plain, seen = {}, {}, {}
  for i = FIRST_ORDER, #ARGV, PARTS do ids[#ids + 1] = ARGV[i + 1] end
  if #ids == 0 then return plain end
  local scores = redis.call('ZMSCORE', KEYS[2], unpack(ids))
  local vacant = redis.call('EXISTS', unpack(KEYS, FIRST_TASK, FIRST_TASK + #ids - 1)) == 0
  for n, id in ipairs(ids) do
    plain[n] = ARGV[FIRST_ORDER + PARTS * (n - 1)] == 'enqueue' and tonumber(scores[n] or nil) == token and not seen[id]
      and (vacant or redis.call('EXISTS', KEYS[FIRST_TASK + n - 1]) == 0)
    seen[id] = true
  end
  return plain
end

-- Enqueues plain ones together. An order that makes no sense raises an error before the first write.
local function enqueue_together(places)
  local mine, tasks, slots = {}, {}, {}
  for k, n in ipairs(places) do
    local i = FIRST_ORDER + PARTS * (n - 1)
    local id = ARGV[i + 1]
    mine[k], tasks[k] = id, TASK_PREFIX .. id
    slots[2 * k - 1], slots[2 * k] = next_slot(tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])), id
  end
  announce_queue()
  for _, n in ipairs(places) do fill(KEYS[FIRST_TASK + n - 1], ARGV[FIRST_ORDER + PARTS * n - 1]) end
  redis.call('LPUSH', KEYS[4], unpack(tasks))
  redis.call('ZADD', KEYS[1], unpack(slots))
  redis.call('ZREM', KEYS[2], unpack(mine))
  for _, n in ipairs(places) do outcomes[n] = 'enqueued' end
end

local function settle(order, id, first, second, message, key)
  local mine = tonumber(redis.call('ZSCORE', KEYS[2], id) or nil)
  if mine ~= token then
    vanished = vanished
      or not mine and not redis.call('ZSCORE', KEYS[1], id) and not redis.call('ZSCORE', KEYS[#KEYS], id)
    return 'lost'
  end

  local task = TASK_PREFIX .. id
  local outcome, due_ms
  if order == 'cached' and redis.call('ZSCORE', KEYS[#KEYS], id) then  -- invariant 12
    outcome = 'dropped'
  elseif order == 'enqueue' or order == 'cached' then
    due_ms = next_slot(tonumber(first), tonumber(second))
    announce_queue()
    outcome = place(key, task, message, ARGV[5])
    if outcome == 'postponed' then due_ms = as_score(now_ms + ARGV[6]) end
  elseif order == 'release' then
    outcome, due_ms = 'released', as_score(now_ms + first)
  else
    outcome = 'dropped'
    withdraw(key, task, message)
  end

  if due_ms then redis.call('ZADD', KEYS[1], due_ms, id) end
  redis.call('ZREM', KEYS[2], id)
  if not due_ms then left = left + 1 end
  return outcome
end

local function settle_alone(n)
  local i = FIRST_ORDER + PARTS * (n - 1)
  -- invariant 7: an error affects only this monitor
  local ok, outcome = pcall(settle, ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], KEYS[FIRST_TASK + n - 1])
  if not ok then
    outcome = 'failed:' .. (type(outcome) == 'table' and outcome.err or tostring(outcome))
  end
  outcomes[n] = outcome
end

-- in the order of the batch, so that the longest overdue comes first in the queue
local plain, together = found_plain(), {}
local function settle_together()
  if #together > 0 and not pcall(enqueue_together, together) then
    for _, n in ipairs(together) do settle_alone(n) end
  end
  together = {}
end
for n = 1, (#ARGV - FIRST_ORDER + 1) / PARTS do
  if plain[n] then
    together[#together + 1] = n
  else
    settle_together()
    settle_alone(n)
  end
end
settle_together()

-- pcall: the orders are carried out, and repair.lua handles a counter of the wrong type
if left > 0 then redis.pcall('INCRBY', KEYS[#KEYS - 1], left) end
if vanished then redis.call('PUBLISH', ARGV[7], 'vanished') end
return {now_ms, unpack(outcomes)}
