#!/bin/sh
# Start mosquitto with a password file that is made from the environment. No password is on a command line, which every
# user of the host could read.
set -eu
check() { # name value
    case $2 in
    *[!A-Za-z0-9._~-]*)
        echo "$1 in .env: use only letters, digits, \".\", \"_\", \"~\" and \"-\", because it becomes part of a URL" >&2
        exit 1
        ;;
    ????????????????*) ;;
    *)
        echo "$1 in .env has fewer than 16 characters: run deploy/make-env, which makes a random one" >&2
        exit 1
        ;;
    esac
}
umask 077
check MQTT_PASSWORD "${MQTT_PASSWORD:-}"
printf 'datafab:%s\n' "$MQTT_PASSWORD" >/tmp/passwords
if [ -n "${MQTT_READER_PASSWORD:-}" ]; then
    check MQTT_READER_PASSWORD "$MQTT_READER_PASSWORD"
    printf 'reader:%s\n' "$MQTT_READER_PASSWORD" >>/tmp/passwords
fi
mosquitto_passwd -U /tmp/passwords # replaces the passwords by their hashes
# The options of the health check's mosquitto_sub (XDG_CONFIG_HOME=/tmp).
printf -- '-u datafab\n-P %s\n' "$MQTT_PASSWORD" >/tmp/mosquitto_sub
unset MQTT_PASSWORD MQTT_READER_PASSWORD
exec mosquitto -c /mosquitto/config/mosquitto.conf
