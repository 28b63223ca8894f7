-- Note that a token was used, unless it has been revoked meanwhile.
-- ARGV: id, Unix time
if redis.call('HEXISTS', PREFIX .. 'tokens', ARGV[1]) == 1 then
  redis.call('HSET', PREFIX .. 'token_used', ARGV[1], ARGV[2])
end
