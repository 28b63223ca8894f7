-- Return the queues with messages: name, seconds since one was taken or worked on, number of messages.
-- A message without a row is a tick or a stale copy: how long it has lain there is not known.
-- ARGV: (queue, list of one of its priorities) pairs.
local found = {}
for i = 1, #ARGV, 2 do
  local queue, list = ARGV[i], P .. ARGV[i + 1]
  local oldest = redis.call('LINDEX', list, -1)
  if oldest then
    local ok, message = pcall(cjson.decode, oldest)
    local headers = ok and type(message) == 'table' and message.headers or {}
    local id = row_id(tostring(headers.task), tostring(headers.id))
    local since = math.max(tonumber(redis.call('HGET', row_key(id), 'at') or 0),
                           tonumber(redis.call('HGET', P .. 'moved', queue) or 0))
    found[#found + 1] = {queue, tostring(now - since), redis.call('LLEN', list)}
  end
end
return found
