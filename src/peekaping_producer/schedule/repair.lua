-- Repair: rename keys of ours that hold the wrong type, and report keys of asynq's that do.
-- KEYS  ours and asynq's
-- ARGV  1 how many of them are ours, then a type for each key; `number` is a string that holds an integer
-- Returns {key, found type, new key or "" if the key is asynq's} for each wrong key, all in one list.
local function type_of(key, wanted)
  local found = redis.call('TYPE', key).ok
  if wanted ~= 'number' or found ~= 'string' then return found end
  local value = redis.call('GET', key)
  return string.find(value, '^%-?%d+$') and #value <= 15 and 'number' or 'string that is not a number'
end

local wrong = {}
for i, key in ipairs(KEYS) do
  local wanted = ARGV[i + 1]
  local found = type_of(key, wanted)
  if found ~= 'none' and found ~= wanted then
    local to = ''
    if i <= tonumber(ARGV[1]) then
      to = string.format('%s:corrupt:%d', key, now_ms)
      redis.call('RENAME', key, to)
    end
    for _, part in ipairs({key, found, to}) do wrong[#wrong + 1] = part end
  end
end
return wrong
