-- Returns how many monitors have left the schedule by settles and removals so far; -1 if the key has the wrong type. Prepended
-- to the scripts that begin and extend a term.
local function left_so_far(key)
  local left = redis.pcall('GET', key)
  return type(left) == 'table' and -1 or tonumber(left or 0) or -1
end
