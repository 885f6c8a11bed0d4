#!/usr/bin/env bash
# Two gateways, PostgreSQL and HAProxy in containers, at http://localhost:8080:
#
#   DASHSCOPE_API_KEY=sk-... deploy/compose/start.sh
#
# The key is needed the first time only. A new image replaces one gateway after the other, so that one always serves.
set -euo pipefail
cd "$(dirname "$0")"

./secrets.sh secrets
compose=(docker compose)
command -v docker >/dev/null || compose=(podman compose)
[ -n "${DASHGATE_IMAGE:-}" ] || "${compose[@]}" build gateway-1
"${compose[@]}" up -d --wait database
for gateway in gateway-1 gateway-2; do
  "${compose[@]}" up -d --no-deps "$gateway"
  # The image has no shell, but the gateway's own command asks whether it is ready.
  for _ in $(seq 60); do
    "${compose[@]}" exec -T "$gateway" dashgate health >/dev/null 2>&1 && continue 2
    sleep 1
  done
  echo "$gateway is not ready:" >&2
  "${compose[@]}" logs --tail 20 "$gateway" >&2
  exit 1
done
"${compose[@]}" up -d balancer
echo "http://localhost:8080, with the key in $PWD/secrets/acme.key"
