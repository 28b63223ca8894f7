-- Keep a new token; return 0 if another token has its name.
-- ARGV: id, name, the token as JSON
if redis.call('HSETNX', PREFIX .. 'token_names', ARGV[2], ARGV[1]) == 0 then
  return 0
end
redis.call('HSET', PREFIX .. 'tokens', ARGV[1], ARGV[3])
return 1
