#!/bin/sh
# Start Redis with one user, datafab, whose password comes from the environment. Only its digest is written to a file, and
# it is on no command line, which every user of the host could read.
set -eu
case ${REDIS_PASSWORD:-} in
*[!A-Za-z0-9._~-]*)
    echo 'REDIS_PASSWORD in .env: use only letters, digits, ".", "_", "~" and "-", because it becomes part of a URL' >&2
    exit 1
    ;;
????????????????*) ;;
*)
    echo "REDIS_PASSWORD in .env has fewer than 16 characters: run deploy/make-env, which makes a random one" >&2
    exit 1
    ;;
esac
umask 077
digest=$(printf %s "$REDIS_PASSWORD" | sha256sum | cut -c 1-64)
# The user cannot change the configuration, load modules or delete everything: whoever has the password can read and
# change the data of datafab, but not run programs here. sync, psync and replconf are for `redis-cli --rdb`, the backup.
cat >/tmp/users.acl <<END
user default off resetpass
user datafab on resetpass #$digest allkeys allchannels +@all -@admin -@dangerous +info +config|get +sync +psync +replconf
END
unset REDIS_PASSWORD
exec redis-server /etc/redis.conf
