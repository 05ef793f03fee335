-- How many monitors have left the schedule by settles and removals so far; -1 where the key holds something else.
local function left_so_far(key)
  local left = redis.pcall('GET', key)
  return type(left) == 'table' and -1 or tonumber(left or 0) or -1
end
