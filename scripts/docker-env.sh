#!/bin/sh
# Make the secrets of docker-compose.yml: a file .env in the same folder, mode 600. Keep an existing file.
set -eu
cd "$(dirname "$0")/.."
if [ -e .env ]; then
    echo ".env is there already" >&2
    exit 0
fi
umask 077
for name in MYSQL_ROOT_PASSWORD APP_PASSWORD DRC_SOURCE_PASSWORD DRC_APPLIER_PASSWORD \
    DRC_OPERATOR_PASSWORD DRC_WEB_TOKEN GRAFANA_PASSWORD; do
    echo "$name=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')"
done >.env.new
mv .env.new .env
echo "secrets are in .env"
