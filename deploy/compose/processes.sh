#!/usr/bin/env bash
# The contents of compose.yaml as processes of this machine, until the script is interrupted: PostgreSQL, two gateways and
# HAProxy, with the same files. A gateway that ends is started again; meanwhile the other one serves.
#
#   DASHSCOPE_API_KEY=sk-... deploy/compose/processes.sh [DIR]
#
# DIR: secrets, data and logs; by default dashgate-replicas. In the PATH: dashgate (or DASHGATE=...), haproxy (or HAPROXY)
# curl and initdb, which Debian keeps in /usr/lib/postgresql. DASHGATE_BALANCER_LISTEN: for clients, 127.0.0.1:8080 by default.
# DASHGATE_FIRST_PORT: the first of five ports on 127.0.0.1, 18080 by default.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
directory=${1:-dashgate-replicas}
first=${DASHGATE_FIRST_PORT:-18080}
export DASHGATE_BALANCER_LISTEN=${DASHGATE_BALANCER_LISTEN:-127.0.0.1:8080}

fail() {
  echo "deploy/compose/processes.sh: $*" >&2
  exit 1
}
[ "$(id -u)" -ne 0 ] || fail "PostgreSQL refuses to run as root; run this as another user"
dashgate=$(command -v "${DASHGATE:-dashgate}") || fail "there is no dashgate in the PATH"
haproxy=$(command -v "${HAPROXY:-haproxy}") || fail "please install haproxy"
postgresql=$(dirname "$(command -v initdb || ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null | sort -V | tail -n 1)")
[ -x "$postgresql/initdb" ] || fail "please install PostgreSQL"
client=$(command -v "$postgresql/psql" || command -v psql) || fail "please install psql, the client of PostgreSQL"

mkdir -p "$directory"
directory=$(cd "$directory" && pwd)
"$here/secrets.sh" "$directory/secrets"

started=()
stop() {
  trap - EXIT INT TERM
  # The balancer first, then the gateways, which drain, and the database last.
  local at
  for ((at = ${#started[@]} - 1; at >= 0; at--)); do
    kill -"$([ "$at" -eq 0 ] && echo INT || echo TERM)" "${started[at]}" 2>/dev/null || true
    wait "${started[at]}" 2>/dev/null || true
  done
}
trap stop EXIT
trap 'exit 0' INT TERM

wait_for() { # NAME COMMAND...
  local name=$1
  shift
  for _ in $(seq 300); do
    "$@" >/dev/null 2>&1 && return
    kill -0 "${started[-1]}" 2>/dev/null || break
    sleep 0.1
  done
  tail -n 20 "$directory/$name.log" >&2
  fail "$name did not start"
}

if [ ! -e "$directory/database/PG_VERSION" ]; then
  "$postgresql/initdb" -D "$directory/database" --username=dashgate --pwfile="$directory/secrets/db.password" \
    --auth=scram-sha-256 --encoding=UTF8 --locale=C --no-instructions >/dev/null
fi
port=$((first + 4))
"$postgresql/postgres" -D "$directory/database" -p "$port" -c listen_addresses=127.0.0.1 \
  -c unix_socket_directories= >"$directory/database.log" 2>&1 &
started+=($!)
PGPASSWORD=$(cat "$directory/secrets/db.password")
export PGPASSWORD
psql() { "$client" --no-psqlrc --quiet -h 127.0.0.1 -p "$port" -U dashgate -d "$@"; }
wait_for database psql postgres -c "SELECT 1"
psql dashgate -c "SELECT 1" >/dev/null 2>&1 || psql postgres -c "CREATE DATABASE dashgate"
unset PGPASSWORD

export DASHGATE_SECRETS=$directory/secrets
export DASHGATE_BALANCER=127.0.0.1/32
export DASHGATE_STORE_URL="postgres://dashgate@127.0.0.1:$port/dashgate?sslmode=disable"
start_gateway() { # NUMBER
  local listen=127.0.0.1:$((first + $1 - 1)) admin=$((first + $1 + 1))
  DASHGATE_LISTEN=$listen DASHGATE_ADMIN_LISTEN=127.0.0.1:$admin \
    DASHGATE_STORE_PATH="$directory/gateway-$1/dashgate.db" \
    "$dashgate" serve -c "$here/gateway/dashgate.toml" >>"$directory/gateway-$1.log" 2>&1 &
  started[$1]=$!
  export "DASHGATE_$1=$listen" "DASHGATE_$1_ADMIN_PORT=$admin"
}
for number in 1 2; do
  mkdir -p "$directory/gateway-$number"
  : >"$directory/gateway-$number.log"
  start_gateway "$number"
  wait_for "gateway-$number" curl -sf "http://127.0.0.1:$((first + number + 1))/readyz"
done
"$haproxy" -db -f "$here/haproxy.cfg" >"$directory/balancer.log" 2>&1 &
started+=($!)
host=${DASHGATE_BALANCER_LISTEN%:*}
case $host in '' | '*' | 0.0.0.0 | '[::]') host=127.0.0.1 ;; esac
host=${host#[} host=${host%]}
wait_for balancer bash -c ": </dev/tcp/$host/${DASHGATE_BALANCER_LISTEN##*:}"
echo "http://$DASHGATE_BALANCER_LISTEN, with the key in $directory/secrets/acme.key"
# The end of the database or of the balancer is the end of all.
while :; do
  wait -n -p ended || true
  case $ended in
    "${started[1]}") number=1 ;;
    "${started[2]}") number=2 ;;
    *) fail "the database or the balancer has ended: see the logs in $directory" ;;
  esac
  echo "gateway $number has ended and is started again" >&2
  sleep 1
  start_gateway "$number"
done
