-- The last step of Redis' clock that a node has noticed. Put before every script that treats what is due by it.
-- Returns at_ms, by_ms: what was due before at_ms was scheduled by the clock as it was, which by_ms turns into today's
-- time; nothing while there is no step, once the leader has swept after it, or when it is too long ago.
local function open_step(key)
  local step = redis.pcall('HMGET', key, 'at_ms', 'by_ms', 'noted_ms', 'until_ms', 'swept')
  local at_ms, by_ms = tonumber(step[1] or nil), tonumber(step[2] or nil)
  local noted_ms, until_ms = tonumber(step[3] or nil), tonumber(step[4] or nil)
  if step[5] or not (at_ms and by_ms and noted_ms and until_ms) then return nil end
  -- noted in the future: the clock went back since, and nobody could notice
  if now_ms < noted_ms or now_ms >= until_ms then return nil end
  return at_ms, by_ms
end
