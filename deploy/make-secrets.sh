#!/bin/sh
# Makes the secrets of deploy/compose.yaml, once: sh deploy/make-secrets.sh redis|rabbitmq [FOLDER]
# Passwords are letters and digits, so that they need no escaping in a URL. What is there stays as
# it is; only queue_url is written anew, because it names the broker. The folder lets nobody else
# in; the files in it can be read by the containers' own users.
set -eu
broker="${1:-}"
folder="${2:-$(dirname "$0")/secrets}"
case "$broker" in
  redis | rabbitmq) ;;
  *) echo "usage: sh $0 redis|rabbitmq [FOLDER]" >&2; exit 2 ;;
esac

password() { LC_ALL=C tr -dc 'A-Za-z0-9' </dev/urandom | head -c 40; }

mkdir -p "$folder"
chmod 700 "$folder"
cd "$folder"
umask 022
[ -s db_password ] || password >db_password
[ -s queue_password ] || password >queue_password
[ -s grafana_password ] || password >grafana_password
[ -e metrics_key ] || : >metrics_key # nemflow keys add prometheus --scope read
[ -s db_url ] || printf 'postgresql://nemflow:%s@postgres:5432/meters\n' "$(cat db_password)" >db_url
if [ "$broker" = redis ]; then
  echo 'redis://redis:6379/0' >queue_url
else
  printf 'amqp://nemflow:%s@rabbitmq:5672/\n' "$(cat queue_password)" >queue_url
  printf 'default_user = nemflow\ndefault_pass = %s\n' "$(cat queue_password)" >rabbitmq.conf
fi
echo "Secrets for PostgreSQL and $broker are in $folder. Keep them out of version control."
