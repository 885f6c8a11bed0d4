#!/usr/bin/env bash
# Builds the image without a daemon and runs it as it is meant to run: user 65532, no capabilities, a read-only root.
# Shows its size, the demo in it, and that its static resolver finds names in /etc/hosts and by DNS.
#
#   deploy/container/try.sh [RUST-IMAGE]
#
# RUST-IMAGE: the image to build with, if not the one that the Containerfile names (without a registry, one made of this
# machine's toolchain: debootstrap, a copy of `rustc --print sysroot`, buildah add). Needs root, buildah, crun, python3.
set -euo pipefail
cd "$(dirname "$0")/../.."
export BUILDAH_ISOLATION=chroot

arguments=()
[ $# -eq 0 ] || arguments=(--pull-never --build-arg "RUST=$1")
[ -n "${SKIP_BUILD:-}" ] ||
  buildah build "${arguments[@]}" --format docker --network host -v /etc/resolv.conf:/etc/resolv.conf:ro \
    -f deploy/container/Containerfile -t dashgate .

scratch=$(mktemp -d)
container=$(buildah from --pull-never localhost/dashgate)
end() {
  [ -z "${helpers:-}" ] || kill $helpers 2>/dev/null || true
  buildah umount "$container" >/dev/null || true
  buildah rm "$container" >/dev/null
  rm -rf "$scratch"
}
trap end EXIT
root=$(buildah mount "$container")
echo "image: $(buildah images --format '{{.Size}}' localhost/dashgate), in $(find "$root" -type f | wc -l) file"
find "$root" -type f -exec ls -l {} +
buildah inspect --format '{{.OCIv1.Config}}' "$container"

# A bundle for the OCI runtime: read-only, no capability, a tmpfs for what is written.
bundle() { # NAME HOSTS RESOLV ARGUMENT...
  local name=$1 hosts=$2 resolv=$3
  shift 3
  mkdir -p "$scratch/$name"
  cp -a "$root" "$scratch/$name/rootfs"
  (cd "$scratch/$name" && crun spec)
  python3 - "$scratch/$name/config.json" "$hosts" "$resolv" "$scratch/config" "$@" <<'PYTHON'
import json, sys
path, hosts, resolv, config, *arguments = sys.argv[1:]
spec = json.load(open(path))
process = spec["process"]
process.update(terminal=False, args=["/usr/bin/dashgate", *arguments], cwd="/var/lib/dashgate", noNewPrivileges=True,
               user={"uid": 65532, "gid": 65532}, env=["TMPDIR=/var/lib/dashgate", "RUST_LOG=info"],
               capabilities={kind: [] for kind in process["capabilities"]})
spec["root"]["readonly"] = True
bind = lambda source, target: {"source": source, "destination": target, "type": "bind", "options": ["bind", "ro"]}
spec["mounts"] = [mount for mount in spec["mounts"] if mount["destination"] in ("/proc", "/dev")] + [
    {"destination": "/var/lib/dashgate", "type": "tmpfs", "source": "tmpfs",
     "options": ["nosuid", "nodev", "noexec", "mode=0700", "uid=65532", "gid=65532"]},
    bind(hosts, "/etc/hosts"), bind(resolv, "/etc/resolv.conf"), bind(config, "/etc/dashgate")]
spec["linux"]["namespaces"] = [{"type": kind} for kind in ("mount", "pid", "ipc", "uts")]
spec["linux"].pop("resources", None)
json.dump(spec, open(path, "w"))
PYTHON
}
# crun wants pure cgroups v2 where it makes none; a mount of its own stands in for them.
start() {
  (cd "$scratch/$1" && exec unshare --mount --propagation private sh -c '
    umount -R -l /sys/fs/cgroup 2>/dev/null; mount -t cgroup2 none /sys/fs/cgroup 2>/dev/null || mount -t tmpfs none /sys/fs/cgroup
    exec crun --cgroup-manager=disabled run "$0"' "dashgate-$1-$$")
}

mkdir "$scratch/config"
echo "--- the demo"
bundle demo /etc/hosts /etc/resolv.conf demo --once --listen 127.0.0.1:0
start demo

echo "--- names: /etc/hosts and DNS"
cat >"$scratch/dns.py" <<'PYTHON'
# Answers each question for an address of dashscope.test with 127.0.0.1.
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.53", 53))
while True:
    question, peer = server.recvfrom(512)
    name = question[12:question.index(0, 12) + 5]
    kind = int.from_bytes(name[-4:-2], "big")
    answer = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x7f\0\0\1" if kind == 1 else b""
    print("asked for", name[:-5], kind, flush=True)
    server.sendto(question[:2] + b"\x81\x80\0\1" + (b"\0\1" if answer else b"\0\0") + b"\0\0\0\0" + name + answer, peer)
PYTHON
python3 "$scratch/dns.py" >"$scratch/dns.log" &
helpers=$!
"$root/usr/bin/dashgate" sim --listen 127.0.0.1:18090 --key main=sk-upstream >/dev/null &
helpers="$helpers $!"
echo "127.0.0.1 in-hosts.test" >"$scratch/hosts"
echo "nameserver 127.0.0.53" >"$scratch/resolv"
for host in in-hosts.test dashscope.test; do
  cat >"$scratch/config/dashgate.toml" <<TOML
server = { listen = "127.0.0.1:18080" }
admin = { listen = "127.0.0.1:0" }
accounts = [{ name = "main", base_url = "http://$host:18090", keys = ["sk-upstream"] }]
tenants = [{ name = "t", keys = [{ id = "k", key = "0123456789abcdef" }] }]
TOML
  name=names-${host%%.*}
  bundle "$name" "$scratch/hosts" "$scratch/resolv" serve -c /etc/dashgate/dashgate.toml
  start "$name" 2>"$scratch/$name.log" &
  runtime=$!
  for _ in $(seq 50); do
    answer=$(curl -s --max-time 5 http://127.0.0.1:18080/compatible-mode/v1/chat/completions -H 'authorization: Bearer 0123456789abcdef' \
      -H 'content-type: application/json' -d '{"model":"qwen-plus","messages":[{"role":"user","content":"hi"}]}') && break
    sleep 0.1
  done
  echo "$host: ${answer:0:120}"
  (cd / && crun kill "dashgate-$name-$$" TERM 2>/dev/null) || kill "$runtime" 2>/dev/null || true
  wait "$runtime" 2>/dev/null || true
  case $answer in *choices*) ;; *) cat "$scratch/$name.log"; exit 1 ;; esac
done
cat "$scratch/dns.log"
