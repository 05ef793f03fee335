-- Redis' clock, the only one that decides (invariant 8). Prepended to every script that reads it.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

-- Returns any instant as a score of ours: never a multiple of a second, which could be a Go node's slot (invariant 11).
local function as_score(ms)
  return ms % 1000 == 0 and ms + 1 or ms
end
