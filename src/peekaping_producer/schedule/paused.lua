-- Returns {since_ms, until_ms, reason, by} of a pause in force, as text; {} if there is none. Prepended after time.lua, to the
-- scripts that claim, and to those that begin and end a pause. Costs one command per claim, too little to measure in a full batch.
local function pause_in(key)
  local pause = redis.call('HMGET', key, 'since_ms', 'until_ms', 'reason', 'by')
  local until_ms = tonumber(string.match(pause[2] or '', '^%d+$'))
  return until_ms and until_ms > now_ms and pause or {}
end
