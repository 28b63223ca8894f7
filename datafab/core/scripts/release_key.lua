-- Take a dedupe key from a job, so that another job can have it. ARGV: job, key.
local kind = listed_kind(ARGV[2])
redis.call('DEL', P .. 'key:' .. ARGV[2])
redis.call('HDEL', job_key(ARGV[1]), 'key')
if kind then leave_keyed(kind, ARGV[1]) end
