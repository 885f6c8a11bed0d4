"""Runs the containers of a sidecar example side by side, as the processes that they would be, with the arguments and the
environment that the manifests (JSON on standard input) give them, in a network of their own. Other than in a cluster are:
the upstream, a simulator; the directories that volumes would be; and that the SDK is installed already.

    sidecar.py DASHGATE KIND < manifests.json      KIND: Job or Deployment
"""

import base64
import fcntl
import json
import os
import pathlib
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

SIOCSIFFLAGS, IFF_UP = 0x8914, 1


def own_network():
    """An empty network has its own ports 8080 and 8081, and no way out."""
    if "DASHGATE_OWN_NETWORK" in os.environ:
        with socket.socket() as any_socket:
            fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
        return
    how = ["unshare", "--net"] + ([] if os.geteuid() == 0 else ["--map-root-user"])
    os.environ["DASHGATE_OWN_NETWORK"] = "yes"
    os.execvp("unshare", [*how, sys.executable, *sys.argv])


def environment(container, manifests, more):
    variables = {}
    for source in container.get("envFrom", []):
        name = source["secretRef"]["name"]
        secret = next(one for one in manifests if one["kind"] == "Secret" and one["metadata"]["name"] == name)
        variables |= {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    variables |= {entry["name"]: entry["value"] for entry in container.get("env", [])}
    return variables | more


def wait_for(url, seconds):
    end = time.monotonic() + seconds
    while True:
        try:
            return urllib.request.urlopen(url, timeout=5).read()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def main():
    own_network()
    dashgate, kind = sys.argv[1:]
    manifests = json.load(sys.stdin)["documents"]
    pod = next(one for one in manifests if one["kind"] == kind)["spec"]["template"]["spec"]
    containers = pod.get("initContainers", []) + pod["containers"]
    sidecar = next(one for one in containers if one["name"] == "dashgate")
    app = next(one for one in containers if one["name"] == "app")
    script = next(one for one in manifests if one["kind"] == "ConfigMap")["data"]["app.py"]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "app.py").write_text(script)
        here = environment(sidecar, manifests, {"DASHGATE_UPSTREAM_URL": "http://127.0.0.1:8090", "PATH": "/usr/bin"})
        here["DASHGATE_STORE_PATH"] = here["DASHGATE_STORE_PATH"].replace("/var/lib/dashgate", str(folder))
        # The simulator takes the sidecar's key alone, so an application that got around it would be refused.
        simulator = subprocess.Popen(
            [dashgate, "sim", "--key", f"main={here['DASHSCOPE_API_KEY']}", "--run-seconds", "1"],
            env={"RUST_LOG": "warn"}, stdout=subprocess.DEVNULL)
        gateway = subprocess.Popen([dashgate, *sidecar["args"]], env=here, cwd=folder)
        try:
            probe = sidecar["startupProbe"]["httpGet"]
            port = {one["name"]: one["containerPort"] for one in sidecar["ports"]}[probe["port"]]
            print("startup probe:", wait_for(f"http://127.0.0.1:{port}{probe['path']}", 30), flush=True)
            wait_for("http://127.0.0.1:8090/sim/tasks", 30)
            there = environment(app, manifests, {"HOME": str(folder), "PATH": os.environ["PATH"]})
            del there["PYTHONPATH"]
            ran = subprocess.run([sys.executable, folder / "app.py"], env=there, timeout=120, check=False)
            gateway.terminate()
            print("application:", ran.returncode, "gateway:", gateway.wait(30))
            sys.exit(ran.returncode or gateway.returncode)
        finally:
            for process in (gateway, simulator):
                process.kill()
                process.wait()


main()
