#!/usr/bin/env python3
"""Fires the alerts for real: a gateway before simulated accounts, each with a fault of its own, under load, and a real
Prometheus that scrapes it. First all is well and nothing may fire, then each fault is made and its alert awaited, and
every query of the Grafana dashboard must have data. On loopback only; some four minutes; it ends what it started.

    deploy/prometheus/try.py [--dashgate target/release/dashgate] [--prometheus prometheus] [--data FILE.json]

Time runs 60 times as fast for the rules: of each "5m" it makes "5s", and of each "1h" a minute. With root and strace, a
slow disk is made as well. From --data deploy/grafana/picture.py draws the dashboard's main panels.
"""

import argparse
import http.client
import itertools
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
DASHBOARD = HERE.parent / "grafana" / "dashgate.json"
SUBMIT = "/api/v1/services/aigc/video-generation/video-synthesis"
CHAT = "/compatible-mode/v1/chat/completions"
ADMIN_TOKEN = "admin-0123456789abcdef"
# Each account has a simulator of its own.
ACCOUNTS = {
    "east": [],
    "west": [],
    "broken": ["--fault", "POST /api/v1/services/* status=500"],
    "cutting": ["--fault", "POST /compatible-mode/* truncate=20:reset"],
    "busy": ["--throttle", "rate-quota"],
    "late": ["--fault", "GET /api/v1/tasks* slow=40/1s", "--run-seconds", "2"],
    "overdue": ["--overdue", "overdue"],
    "dead": [],
    "gone": None,
}
# Accounts that each tenant may use.
TENANTS = {
    "acme": ["east", "west"], "globex": ["west"], "broken": ["broken"], "cut": ["cutting"], "busy": ["busy"],
    "late": ["late"], "overdue": ["overdue"], "dead": ["dead"], "gone": ["gone"], "out": ["dead", "overdue"],
    "keen": ["east"], "large": ["east"],
}
LIMITS = {"keen": "limits = { requests_per_second = 1 }", "large": 'models = ["wan2.7-*"]'}


def key(tenant):
    return f"vk-{tenant}-0123456789abcdef"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def say(text):
    print(f"{time.monotonic() - START:6.1f} s  {text}", flush=True)


class Program:
    """A process, and what it says."""

    def __init__(self, *command, **options):
        self.said = []
        self.process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", **options)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self.process.stdout:
            self.said.append(line)
            del self.said[:-2000]

    def address(self):
        """Where it listens, by its own word."""
        return until(lambda: next((m[1] for m in (re.search(r"listening on http://([0-9.:]+)", line)
                                                  for line in list(self.said)) if m), None), 30, self)

    def end(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def until(condition, seconds, program=None, every=0.2):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        if program and program.process.poll() is not None:
            break
        time.sleep(every)
    raise SystemExit("in vain: " + ("".join(program.said[-20:]) if program else str(condition)))


class Rig:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.stop = threading.Event()
        self.programs, self.ports = [], {"data": free_port(), "admin": free_port(), "prometheus": free_port()}
        self.simulated, self.upstreams = {}, {}
        self.sent = itertools.count()

    def start(self, *command, **options):
        program = Program(*command, **options)
        self.programs.append(program)
        return program

    def simulators(self):
        for name, faults in ACCOUNTS.items():
            if faults is None:
                self.upstreams[name] = f"127.0.0.1:{free_port()}"
                continue
            taken = "sk-another" if name == "dead" else f"sk-{name}-upstream"
            pace = [] if "--run-seconds" in faults else ["--run-seconds", "3"]
            self.simulated[name] = self.start(
                self.options.dashgate, "sim", "--listen", "127.0.0.1:0", "--key", f"{name}={taken}", "--submit-rps",
                "100", "--running", "500", *pace, *faults)
            self.upstreams[name] = self.simulated[name].address()

    def configuration(self, more=""):
        lines = [f'server = {{ listen = "127.0.0.1:{self.ports["data"]}", workers = 2, auth_failures_per_second = 20 }}',
                 f'admin = {{ listen = "127.0.0.1:{self.ports["admin"]}", token = "{ADMIN_TOKEN}" }}',
                 f'store = {{ path = "{self.folder}/store.db" }}',
                 f'log = {{ access = "{self.folder}/access.log" }}', more]
        lines += [f'[[accounts]]\nname = "{name}"\nbase_url = "http://{at}"\nkeys = ["sk-{name}-upstream"]\n'
                  f'pace = [{{ models = ["*"], requests_per_second = "unlimited" }}]'
                  for name, at in self.upstreams.items()]
        lines += [f'[[tenants]]\nname = "{name}"\naccounts = {json.dumps(accounts)}\n{LIMITS.get(name, "")}\n'
                  f'keys = [{{ id = "{name}-1", key = "{key(name)}" }}]' for name, accounts in TENANTS.items()]
        path = self.folder / "dashgate.toml"
        path.write_text("\n".join(lines) + "\n")
        return path

    def gateway(self):
        # A limit on files, which the full disk is made with, must not be a signal's end.
        quiet = lambda: signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        gateway = self.start(self.options.dashgate, "serve", "-c", self.folder / "dashgate.toml", preexec_fn=quiet)
        gateway.address()
        return gateway

    def prometheus(self):
        fast = lambda text: re.sub(r"\b(\d+)h\b", r"\1MIN", re.sub(r"\b(\d+)m\b", r"\1s", text)).replace("MIN", "m")
        rules = (HERE / "rules.yml").read_text()
        changed = re.sub(r"(\[\d+[mh]\]|for: \d+[mh])", lambda found: fast(found[0]), rules)
        (self.folder / "rules.yml").write_text(changed)
        config = (HERE / "prometheus.yml").read_text()
        config = config.replace("127.0.0.1:8081", f"127.0.0.1:{self.ports['admin']}").replace("15s", "500ms")
        (self.folder / "prometheus.yml").write_text(config)
        program = self.start(
            self.options.prometheus, f"--config.file={self.folder}/prometheus.yml",
            f"--storage.tsdb.path={self.folder}/tsdb", f"--web.listen-address=127.0.0.1:{self.ports['prometheus']}")
        until(lambda: self.ready(), 60, program)

    def ready(self):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.ports['prometheus']}/-/ready", timeout=5).status == 200
        except OSError:
            return False

    def ask(self, path, **query):
        url = f"http://127.0.0.1:{self.ports['prometheus']}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]

    def firing(self):
        return {alert["labels"]["alertname"] for alert in self.ask("alerts")["alerts"] if alert["state"] == "firing"}

    def call(self, method, path, tenant, body=None, headers=None, within=20):
        next(self.sent)
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["data"], timeout=within)
        try:
            send = {"authorization": f"Bearer {key(tenant)}", "content-type": "application/json", **(headers or {})}
            connection.request(method, path, None if body is None else json.dumps(body), send)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def submit(self, tenant, wait=True):
        body = {"model": "wan2.7-t2v", "input": {"prompt": "a lighthouse"}, "parameters": {"duration": 5}}
        status, answer = self.call("POST", SUBMIT, tenant, body, {"x-dashscope-async": "enable"})
        if status == 200 and wait:
            task = json.loads(answer)["output"]["task_id"]
            for _ in range(10):
                status, answer = self.call("GET", f"/api/v1/tasks/{task}", tenant)
                if b'"SUCCEEDED"' in answer or self.stop.wait(0.5):
                    break

    def chat(self, tenant):
        self.call("POST", CHAT, tenant, {"model": "qwen-plus", "messages": [{"role": "user", "content": "hi"}]})

    def keep(self, pause, work, *arguments, stop=None):
        """Does it again and again, in a thread of its own."""
        stop = stop or self.stop

        def loop():
            while not stop.is_set():
                work(*arguments)
                stop.wait(pause)
        threading.Thread(target=loop, daemon=True).start()

    def well(self, stop):
        for tenant in ["acme", "acme", "acme", "globex"]:
            self.keep(0.3, self.submit, tenant, stop=stop)
            self.keep(0.15, self.chat, tenant, stop=stop)

    def query(self, expression, variables):
        for name, value in variables.items():
            expression = expression.replace(name, value)
        return expression


def await_alerts(rig, wanted, seconds, fired):
    """Notes each alert when it fires."""
    wanted = set(wanted)
    end = time.monotonic() + seconds
    while wanted - fired.keys() and time.monotonic() < end:
        for name in rig.firing() - fired.keys():
            fired[name] = time.monotonic() - START
            say(f"{name} fires")
        time.sleep(0.3)
    for name in wanted - fired.keys():
        rules = (rule for group in rig.ask("rules")["groups"] for rule in group["rules"])
        query = next(rule["query"] for rule in rules if rule["name"] == name)
        left, _, _ = query.rpartition(" > ")
        say(f"{name} does not fire: {[sample['value'] for sample in rig.ask('query', query=left)['result']]}")
    return wanted - fired.keys()


def strangers(rig):
    rig.call("GET", "/api/v1/tasks/x", "nobody")


def descriptors(process):
    """Those that were open for what is over now are closed one after the other, so the limit follows."""
    try:
        limit = len(os.listdir(f"/proc/{process}/fd")) + 8
        resource.prlimit(process, resource.RLIMIT_NOFILE, (limit, limit))
    except OSError:
        pass  # It has ended.


def large_bodies(rig, stop):
    """Bodies that stop before their end and hold their memory, and more that find no room."""
    held, part = [], b" " * (32 << 20)
    head = (f"POST {SUBMIT} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {key('large')}\r\nx-dashscope-async: enable"
            f"\r\ncontent-type: application/json\r\ncontent-length: {64 << 20}\r\n\r\n").encode()
    while not stop.is_set():
        one = socket.create_connection(("127.0.0.1", rig.ports["data"]))
        try:
            one.sendall(head + part)
            one.settimeout(0.5)
            one.recv(1)
            one.close()
        except TimeoutError:
            held.append(one)
        except OSError:
            one.close()
    for one in held:
        one.close()


def run(options, folder):
    rig = Rig(options, folder)
    try:
        return rehearse(rig)
    finally:
        rig.stop.set()
        for program in reversed(rig.programs):
            program.end()


def rehearse(rig):
    fired, missed = {}, set()
    rig.simulators()
    rig.configuration()
    gateway = rig.gateway()
    rig.prometheus()
    loaded = [rule["name"] for group in rig.ask("rules")["groups"] for rule in group["rules"]]
    say(f"Prometheus has loaded {len(loaded)} alert rules; load starts, and all is well")
    calm = threading.Event()
    rig.well(calm)
    time.sleep(45)
    quiet = rig.ask("query", query='count(ALERTS{alertstate="firing"}) or vector(0)')["result"][0]["value"][1]
    ever = rig.ask("query", query='count by (alertname) (max_over_time(ALERTS{alertstate="firing"}[40s]))')["result"]
    say(f"after 45 s (45 minutes to the rules) of load nothing fires: {quiet} now, {[a['metric'] for a in ever]} before")
    assert quiet == "0" and not ever, "an alert fires though all is well"

    say("faults: accounts that fail, cut, throttle, are overdue, late or gone; a dead key; strangers; a keen tenant")
    for pause, work, *arguments in [
        (0.02, rig.submit, "broken", False), (0.05, rig.chat, "cut"), (0.05, rig.submit, "busy", False),
        (0.2, rig.submit, "overdue", False), (0.2, rig.submit, "dead", False), (0.2, rig.submit, "gone", False),
        (0.2, rig.submit, "out", False), (0.05, rig.chat, "keen"), (0.05, strangers, rig),
    ]:
        rig.keep(pause, work, *arguments)
    for _ in range(40):
        rig.keep(0.1, rig.submit, "late")
        time.sleep(0.2)
    missed |= await_alerts(rig, {
        "DashgateServerErrors", "DashgateUpstreamErrors", "DashgateAnswersCut", "DashgateUpstreamThrottled",
        "DashgateAccountOverdue", "DashgateUpstreamKeyRefused", "DashgateUpstreamUnreachable", "DashgateAccountsOut",
        "DashgateTenantLimited", "DashgateStrangers", "DashgateCompletionLag", "DashgatePollsStale"}, 90, fired)

    panels(rig)

    say("a fault in the configuration, told by SIGHUP")
    good = (rig.folder / "dashgate.toml").read_text()
    (rig.folder / "dashgate.toml").write_text(good + "nonsense = 1\n")
    gateway.process.send_signal(signal.SIGHUP)
    missed |= await_alerts(rig, {"DashgateReloadRejected"}, 20, fired)
    (rig.folder / "dashgate.toml").write_text(good)
    gateway.process.send_signal(signal.SIGHUP)

    say("a disk that is full: the process may write no further into files")
    resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    missed |= await_alerts(rig, {"DashgateStoreUnwritable", "DashgateAccessLogDrops"}, 40, fired)
    resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    say("large bodies that stop before their end")
    stop = threading.Event()
    threading.Thread(target=large_bodies, args=(rig, stop), daemon=True).start()
    missed |= await_alerts(rig, {"DashgateNoRoom"}, 40, fired)
    stop.set()

    if shutil.which("strace"):
        say("a disk that is slow: each fdatasync takes 0.8 s more")
        slow = rig.start("strace", "-f", "-q", "-o", "/dev/null", "-e", "trace=fdatasync,fsync", "-e",
                         "inject=fdatasync,fsync:delay_exit=800000", "-p", gateway.process.pid)
        missed |= await_alerts(rig, {"DashgateStoreSlow", "DashgateOverheadHigh"}, 60, fired)
        slow.end(signal.SIGINT)
    else:
        say("no slow disk: there is no strace here")

    say("descriptors: a limit little above what is open")
    tight = threading.Event()
    rig.keep(0.5, descriptors, gateway.process.pid, stop=tight)
    missed |= await_alerts(rig, {"DashgateDescriptorsRunOut"}, 30, fired)
    tight.set()

    say("restarts, one after the other")
    for _ in range(6):
        gateway.end(signal.SIGKILL)
        gateway = rig.gateway()
        time.sleep(1.2)
    missed |= await_alerts(rig, {"DashgateRestarting"}, 20, fired)

    say("the load ends, but for tasks that never do; what is known of them lasts an hour, a minute here")
    calm.set()
    rig.stop.set()
    time.sleep(3)
    rig.stop = threading.Event()
    # The upstream gives no further news of the account's tasks.
    rig.simulated["late"].end()
    hanging = rig.start(rig.options.dashgate, "sim", "--listen", rig.upstreams["gone"], "--key",
                        "gone=sk-gone-upstream", "--run-seconds", "9999", "--submit-rps", "100")
    hanging.address()
    for _ in range(5):
        rig.submit("gone", wait=False)
        time.sleep(1)
    missed |= await_alerts(rig, {"DashgateTasksNotEnding"}, 180, fired)

    say("the gateway ends")
    gateway.end()
    missed |= await_alerts(rig, {"DashgateDown"}, 20, fired)
    unheard = set(loaded) - fired.keys()
    say(f"{len(fired)} of {len(loaded)} alerts have fired; {next(rig.sent)} requests were sent; not fired: {sorted(unheard)}")
    return not missed


def panels(rig):
    """Each query of the dashboard has data."""
    dashboard = json.loads(DASHBOARD.read_text())
    variables = {"$__rate_interval": "10s", "$job": "dashgate", "$instance": ".+"}
    empty, asked, drawn = [], 0, {}
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            expression = rig.query(target["expr"], variables)
            asked += 1
            found = rig.ask("query", query=expression)["result"]
            if not any(sample["value"][1] != "NaN" for sample in found):
                empty.append(panel["title"])
            now = time.time()
            series = rig.ask("query_range", query=expression, start=now - (time.monotonic() - START) + 8, end=now, step=1)
            drawn.setdefault(panel["title"], []).append({"legend": target["legendFormat"], "result": series["result"]})
    say(f"{asked - len(empty)} of the dashboard's {asked} queries have data; empty: {empty}")
    if rig.options.data:
        pathlib.Path(rig.options.data).write_text(json.dumps(drawn))
    assert not empty, "a panel has no data"


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--dashgate", default=HERE.parents[1] / "target" / "release" / "dashgate")
    options.add_argument("--prometheus", default="prometheus")
    options.add_argument("--data", help="write the panels' data there, as JSON")
    options = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="dashgate-") as folder:
        sys.exit(0 if run(options, pathlib.Path(folder)) else "not every alert fired that should have")


START = time.monotonic()
if __name__ == "__main__":
    main()
