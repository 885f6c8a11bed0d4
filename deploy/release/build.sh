#!/usr/bin/env bash
# Builds the release program, which is static: it needs no library of the machine that it runs on. It is built twice:
# the first program is put under load and counts which of its code runs how often, the second one is laid out and
# inlined by that. The program takes less CPU than that of `cargo build --release` (a seventh less when measured), less
# memory, and three times as long to build: a quarter of an hour on two cores.
#
#   deploy/release/build.sh [OUT]      OUT: target/trained/dashgate
#
# The load runs on loopback, for half a minute, with two processors or more. Needs LLVM's llvm-profdata of rustc's own
# major version: rustup's component llvm-tools, or Debian's llvm-NN. Valgrind, which lists what runs at a start, is
# fetched where there is none. RUSTFLAGS are kept.
set -euo pipefail

out=
for argument in "$@"; do
  case $argument in
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" && exit ;;
    -*) echo "$0: there is no option $argument" >&2 && exit 2 ;;
    *) out=$(realpath -m -- "$argument") ;;
  esac
done
cd "$(dirname "$0")/../.."

host=$(rustc -vV | sed -n 's/^host: //p')
llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
work=$PWD/target/trained
out=${out:-$work/dashgate}

# Another version of llvm-profdata may not read this compiler's counts, or write counts that it does not read.
profdata=
for candidate in "$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata" \
  "/usr/lib/llvm-$llvm/bin/llvm-profdata" "$(command -v "llvm-profdata-$llvm" || true)"; do
  [ ! -x "$candidate" ] || profdata=$candidate
done
if [ -z "$profdata" ]; then
  echo "$0: no llvm-profdata for LLVM $llvm: rustup component add llvm-tools, or apt-get install llvm-$llvm" >&2
  exit 1
fi

# Both with the same settings: the names of functions come of them, and counts find their functions by name.
build() { # DIRECTORY FLAG...
  local directory=$work/$1
  shift
  # glibc's static resolver reads /etc/hosts and asks DNS by itself (since 2.34): nothing is loaded at run time.
  RUSTFLAGS="${RUSTFLAGS:-} -Ctarget-feature=+crt-static $*" cargo build --release --locked --bin dashgate --target "$host" --target-dir "$directory"
}

read -ra valgrind < <(benches/fetch valgrind target/peers) ||
  { echo "$0: no Valgrind" >&2 && exit 1; }
rm -rf "$work/counts"
echo "1 of 4: a program that counts" >&2
build counting "-Cprofile-generate=$work/counts" -Cstrip=none
counting=$work/counting/$host/release/dashgate
export LLVM_PROFILE_FILE="$work/counts/%p.profraw"

# Functions that run at a start, by name, because counts know Rust alone. Without them the program needs 2 MiB more.
echo "2 of 4: its start" >&2
rm -rf "$work/start" && mkdir "$work/start" && : >"$work/start/ran"
sed -E 's/^(listen = )"[^"]*"/\1"127.0.0.1:0"/' deploy/dashgate.example.toml >"$work/start/dashgate.toml"
start() {
  cd "$work/start"
  DASHSCOPE_API_KEY=sk-of-nobody-0123 DASHGATE_ADMIN_TOKEN=sk-of-nobody-4567 ACME_KEY=sk-of-nobody-89ab RUST_LOG=info \
    exec timeout -k 10 300 "${valgrind[@]}" --tool=callgrind --demangle=no --compress-strings=no \
    --callgrind-out-file=ran "$counting" serve >log 2>&1
}
start &
until grep -qs "ready: listening" "$work/start/log" || ! kill -0 $! 2>/dev/null; do sleep 1; done
kill $! 2>/dev/null || true
wait $! && grep -q "^fn=" "$work/start/ran" ||
  echo "$0: what runs at a start is not known: $(tail -n 3 "$work/start/log")" >&2

echo "3 of 4: its load" >&2
cargo bench --locked --profile dev --bench peers -- \
  cost tls latency streams bulk --peers dashgate --rounds 1 --seconds 2 \
  --program "$counting" >"$work/load.txt"
unset LLVM_PROFILE_FILE
"$profdata" merge -o "$work/load.profdata" "$work"/counts/*.profraw

# Functions that run at a start, of all languages, then the rest that seldom runs: each group together, so its pages hold
# little that never runs.
sed -n "s/^fn=\([^']*\).*/\1/p" "$work/start/ran" | awk '!seen[$0]++' >"$work/seldom.txt"
"$profdata" merge --text -o - "$work/load.profdata" | awk '
  BEGIN { RS = ""; FS = "\n" }
  {
    name = ""; most = 0; counts = 0
    for (line = 1; line <= NF; line++) {
      if ($line ~ /^[#:]/) counts = $line == "# Counter Values:"
      else if (name == "") { name = $line; sub(/.*;/, "", name) }
      else if (counts && $line + 0 > most) most = $line + 0
    }
    if (0 < most && most < 1000) print name
  }' >>"$work/seldom.txt"

echo "4 of 4: the program" >&2
# cargo does not see that the counts are others than last time.
rm -rf "$work/final"
# Hot code stands together, cold code is made small, and relocations take bits instead of entries.
build final "-Cprofile-use=$work/load.profdata" -Cllvm-args=-pgso-lwss-only=false \
  -Clink-arg=-Wl,-z,keep-text-section-prefix -Clink-arg=-Wl,-z,pack-relative-relocs \
  "-Clink-arg=-Wl,--symbol-ordering-file=$work/seldom.txt" -Clink-arg=-Wl,--no-warn-symbol-ordering
# The compiler ignores counts of functions that it does not find, without a warning.
grep -q '\.text\.hot' "$work/final/$host/release/dashgate" ||
  echo "$0: nothing stands in .text.hot: the counts were not used, or the linker is not lld" >&2
install -D -m 0755 "$work/final/$host/release/dashgate" "$out"
# A glibc that can't relocate itself so, one before 2.36, has made a program that does not start.
"$out" --version >&2 || { echo "$0: $out does not start: this takes glibc 2.36 or later to build" >&2 && exit 1; }
ls -l "$out" >&2
