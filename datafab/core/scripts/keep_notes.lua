-- Keep the notes on one item, or on the whole batch: those of its stage and those of the runner.
-- ARGV: key of what is done, index, notes of the stage, retention in seconds, row id, holder, notes of the runner.
if not holds(ARGV[5], ARGV[6]) then return 0 end
redis.call('HSET', P .. ARGV[1], 'm:' .. ARGV[2], ARGV[3], 'r:' .. ARGV[2], ARGV[7])
redis.call('EXPIRE', P .. ARGV[1], ARGV[4])
return 1
