#!/usr/bin/env bash
# Makes the secrets that are still missing: the account's key from DASHSCOPE_API_KEY, and three that are new.
#
#   deploy/compose/secrets.sh DIR
set -euo pipefail
directory=${1:?the directory for the secrets}

mkdir -p "$directory"
# The files can be read in containers, whose users are others; the directory keeps users of this machine out.
chmod 0700 "$directory"
make() {
  [ -s "$directory/$1" ] || printf '%s\n' "$2" >"$directory/$1"
  chmod 0444 "$directory/$1"
}
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

[ -s "$directory/dashscope.key" ] || : "${DASHSCOPE_API_KEY:?set it to a key of your account}"
make dashscope.key "${DASHSCOPE_API_KEY:-}"
make admin.token "$(random)"
make acme.key "sk-$(random)"
make db.password "$(random)"
