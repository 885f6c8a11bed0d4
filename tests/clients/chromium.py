"""A real Chromium plays a video through the gateway, in a <video> element.

    DASHGATE_CHROMIUM    the browser's program, in place of the system's

A <video> element can't send a key, so the page comes from a small server of
this script that adds it, as a shop's own backend would, and passes on all the
browser asks for: its ranges reach the gateway, and the gateway's answers it.
"""

import json
import os
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai
from gateway import KEY, URL, check, same, scratch, step

PAGE = b"""<!doctype html><video id=v muted preload=auto src=/video></video><script>
const tell = what => fetch('/report', {method: 'POST', body: JSON.stringify(what)});
v.onerror = () => tell({error: v.error.message});
v.onloadeddata = () => { v.currentTime = 1.5; };
v.onseeked = () => { v.onseeked = null; v.play().catch(error => tell({error: String(error)})); };
v.onended = () => tell({ended: v.ended, duration: v.duration, at: v.currentTime, width: v.videoWidth,
  height: v.videoHeight, seekable: v.seekable.end(0), frames: v.getVideoPlaybackQuality().totalVideoFrames});
</script>"""
PASSED_ON = ("Range", "If-Range", "Accept", "Accept-Encoding")


class Backend(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    video = None
    asked = []
    report = None
    reported = threading.Event()

    def do_GET(self):
        if self.path != "/video":
            return self.answer(200 if self.path == "/" else 404, {"Content-Type": "text/html"}, PAGE)
        headers = {name: self.headers[name] for name in PASSED_ON if self.headers[name]}
        headers["Authorization"] = f"Bearer {KEY}"
        request = urllib.request.Request(f"{URL}/v1/videos/{self.video}/content", headers=headers)
        try:
            answer = urllib.request.urlopen(request, timeout=30)
        except urllib.error.HTTPError as error:
            answer = error
        body = answer.read()
        self.asked.append((self.headers["Range"], answer.status, answer.headers["Content-Range"], len(body)))
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in ("date", "content-length")}
        self.answer(answer.status, kept, body)

    def do_POST(self):
        Backend.report = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(204, {}, b"")
        self.reported.set()

    def answer(self, status, headers, body):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    client = openai.OpenAI(api_key=KEY, base_url=URL + "/v1")
    Backend.video = client.videos.create_and_poll(model="wan2.7-t2v", prompt="A paper boat").id
    server = ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --autoplay-policy=no-user-gesture-required --mute-audio"
    with scratch() as profile:
        program = os.environ.get("DASHGATE_CHROMIUM") or shutil.which("chromium")
        check(program, "there is no chromium")
        command = [program, *flags.split(), "--remote-debugging-port=0"]
        command += [f"--user-data-dir={profile}", f"http://127.0.0.1:{server.server_port}/"]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            check(Backend.reported.wait(90), "the browser told nothing; it asked for", Backend.asked)
        finally:
            # Its processes end in order, so that nothing is left that still writes into the profile.
            browser.terminate()
            browser.wait(30)
    for line in Backend.asked:
        step("range, status, content-range, bytes:", *line)
    step("played:", Backend.report)
    check(Backend.report.get("ended") and Backend.report["frames"] > 0, Backend.report)
    same((Backend.report["width"], Backend.report["height"]), (320, 180), "the picture")
    check(abs(Backend.report["duration"] - 2) < 0.2 and Backend.report["seekable"] > 1.9, Backend.report)
    check(all(status == 206 for asked, status, _, _ in Backend.asked if asked), Backend.asked)
    check(any(asked for asked, *_ in Backend.asked), "no range was asked for", Backend.asked)


if __name__ == "__main__":
    main()
