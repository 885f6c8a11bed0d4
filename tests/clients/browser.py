"""A real Chromium, and the server of the pages that it shows.

    DASHGATE_CHROMIUM    the browser's program, in place of the system's
"""

import json
import os
import queue
import shutil
import signal
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from gateway import check, scratch

FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --autoplay-policy=no-user-gesture-required --mute-audio
--disable-features=HttpsUpgrades --remote-debugging-port=0"""


class PageServer(BaseHTTPRequestHandler):
    """Answers a page's requests. A page tells what it saw by `POST /report`, as JSON."""

    protocol_version = "HTTP/1.1"
    reports = queue.Queue()

    def do_POST(self):
        self.reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.answer(204, {}, b"")

    @classmethod
    def report(cls):
        """Waits for what a page tells next."""
        try:
            return cls.reports.get(timeout=120)
        except queue.Empty:
            raise AssertionError("the page told nothing for two minutes") from None

    def answer(self, status, headers, body):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def serve(handler):
    """Serves pages on loopback until the script ends; its host and port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"127.0.0.1:{server.server_port}"


@contextmanager
def browser(url, *flags):
    """Shows a page until the block ends."""
    program = os.environ.get("DASHGATE_CHROMIUM") or shutil.which("chromium")
    check(program, "there is no chromium")
    with scratch() as profile:
        command = [program, *FLAGS.split(), *flags, f"--user-data-dir={profile}", url]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, start_new_session=True, **quiet)
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)
            remove(profile, process.pid)


def remove(profile, group):
    """Removes a browser's profile. Helpers outlive the browser for a moment, and still write into it."""
    for _ in range(100):
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            pass
        shutil.rmtree(profile, ignore_errors=True)
        if not os.path.exists(profile):
            return
        time.sleep(0.05)
    raise AssertionError(f"{profile} can't be removed")
