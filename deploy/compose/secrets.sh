#!/bin/sh
# Writes random secrets to deploy/compose/.env, which docker compose reads. An existing file is kept: a new HMAC secret invalidates every key.
set -eu
file=$(dirname "$0")/.env
if [ -e "$file" ]; then
    echo "$file exists and is kept"
    exit 0
fi
umask 077
for name in KEYGATE_HMAC_SECRET POSTGRES_PASSWORD REDIS_PASSWORD GRAFANA_PASSWORD; do
    echo "$name=$(openssl rand -hex 32)"
done >"$file"
echo "$file is written; the password of Grafana's user admin is in it"
