-- Return for how many seconds the first due row has been waiting to be sent, and how many jobs are parked.
local first = redis.call('ZRANGE', P .. 'due', 0, 0, 'WITHSCORES')
return {tostring(first[2] and math.max(0, now - tonumber(first[2])) or 0),
        redis.call('ZCOUNT', P .. 'parked', now, '+inf')}
