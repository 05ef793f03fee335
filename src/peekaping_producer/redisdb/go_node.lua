-- How a Go producer is recognised. Prepended to every script that has to know.

-- Returns whether a node's id is a Go producer's: it ends in a hyphen and digits, ours never do (model/ids.py).
local function is_go_node(id)
  return string.find(id, '%-%d+$') ~= nil
end

-- Returns '1' while a Go producer runs beside us, by the mark that nodes leave or by the leader's id; otherwise ''.
local function beside_go(mark_key, leader_key)
  local leader = redis.call('GET', leader_key)
  return (redis.call('EXISTS', mark_key) == 1 or leader and is_go_node(leader)) and '1' or ''
end
