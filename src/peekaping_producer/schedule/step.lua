-- Returns at_ms and by_ms of the last step of Redis' clock that a node has noticed. Prepended to every script that handles
-- what is due differently because of it. What was due before at_ms was scheduled by the clock as it was; adding by_ms
-- converts it to the clock as it is now. Returns nothing if there is no step, if the leader has swept since, or if it is too old.
local function open_step(key)
  local step = redis.pcall('HMGET', key, 'at_ms', 'by_ms', 'noted_ms', 'until_ms', 'swept')
  local at_ms, by_ms = tonumber(step[1] or nil), tonumber(step[2] or nil)
  local noted_ms, until_ms = tonumber(step[3] or nil), tonumber(step[4] or nil)
  if step[5] or not (at_ms and by_ms and noted_ms and until_ms) then return nil end
  -- noted in the future: the clock went back since, and nobody could notice
  if now_ms < noted_ms or now_ms >= until_ms then return nil end
  return at_ms, by_ms
end

-- Returns the same, but only for a step forward, and only while monitors are overdue because of it.
local function open_step_forward(key)
  local at_ms, by_ms = open_step(key)
  if at_ms and by_ms >= 0 and now_ms - by_ms < at_ms then return at_ms, by_ms end
end
