# The session in which the shell blocks of a page run, one after another, as a reader would type them. The test puts the
# blocks behind these lines. Programs of the pages stand here as functions where a test needs more of them: servers run in
# the background, answers of curl tell their status, and nothing waits long.
set -Eeuo pipefail
trap 'echo "@failed: $BASH_COMMAND" >&2' ERR
trap 'jobs -p | xargs -r kill -KILL 2>/dev/null' EXIT

dashgate() {
  case ${1-} in
    serve)
      [[ " $* " == *" --take-over "* ]] || stop_server
      background "ready: listening on" "$@"
      server=$!
      ;;
    sim) background "ready: the simulator is listening on" "$@" ;;
    demo)
      if [[ " $* " == *" --once "* ]]; then
        "$DASHGATE" "$@" --listen 127.0.0.1:0 --run-seconds 1
      else
        background "until Ctrl-C" "$@" --listen 127.0.0.1:0 --run-seconds 1
      fi
      ;;
    *) "$DASHGATE" "$@" ;;
  esac
}

# Starts the program, and returns when its output has this text.
background() {
  local text=$1 log
  shift
  log=$(mktemp)
  "$DASHGATE" "$@" </dev/null >"$log" 2>&1 &
  until grep -q "$text" "$log"; do
    kill -0 $! 2>/dev/null || { cat "$log" >&2; return 1; }
    command sleep 0.05
  done
}

# A reader ends a server by Ctrl-C before starting the next one in its place.
stop_server() {
  [ -n "${server-}" ] || return 0
  kill "$server" 2>/dev/null || return 0
  wait "$server" || true
}

# No call leaves this machine.
curl() {
  local word
  for word in "$@"; do
    case $word in
      http://127.0.0.1:* | https://127.0.0.1:*) ;;
      http://* | https://*) refuse "curl $word" ;;
    esac
  done
  command curl --silent --show-error --noproxy '*' --max-time 20 --write-out '%{stderr}@status %{http_code}\n' "$@"
}

# The tests run with a program that is built.
cargo() {
  [ "$1" = run ] || return 0
  while [ "$1" != -- ]; do shift; done
  shift
  dashgate "$@"
}

sudo() {
  [ "$1" = dashgate ] || refuse "sudo $1"
  "$@"
}

sleep() { command sleep 0.3; }

# A block with one of these is marked as not run.
for program in createdb docker kubectl logrotate pg_dump pg_restore podman ssh systemctl; do
  eval "$program() { refuse $program; }"
done

refuse() {
  echo "no test runs $1 on this machine: mark the block" >&2
  exit 1
}
