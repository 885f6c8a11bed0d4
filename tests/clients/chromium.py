"""A real Chromium plays a video through the gateway, in a <video> element.

A <video> element can't send a key, so the page comes from a small server of
this script that adds it, as a shop's own backend would, and passes on all the
browser asks for: its ranges reach the gateway, and the gateway's answers it.
"""

import urllib.error
import urllib.request

import openai
from browser import PageServer, browser, serve
from gateway import KEY, URL, check, same, step

PAGE = b"""<!doctype html><video id=v muted preload=auto src=/video></video><script>
const tell = what => fetch('/report', {method: 'POST', body: JSON.stringify(what)});
v.onerror = () => tell({error: v.error.message});
v.onloadeddata = () => { v.currentTime = 1.5; };
v.onseeked = () => { v.onseeked = null; v.play().catch(error => tell({error: String(error)})); };
v.onended = () => tell({ended: v.ended, duration: v.duration, at: v.currentTime, width: v.videoWidth,
  height: v.videoHeight, seekable: v.seekable.end(0), frames: v.getVideoPlaybackQuality().totalVideoFrames});
</script>"""
PASSED_ON = ("Range", "If-Range", "Accept", "Accept-Encoding")


class Backend(PageServer):
    video = None
    asked = []

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


def main():
    client = openai.OpenAI(api_key=KEY, base_url=URL + "/v1")
    Backend.video = client.videos.create_and_poll(model="wan2.7-t2v", prompt="A paper boat").id
    with browser(f"http://{serve(Backend)}/"):
        report = Backend.report()
    for line in Backend.asked:
        step("range, status, content-range, bytes:", *line)
    step("played:", report)
    check(report.get("ended") and report["frames"] > 0, report)
    same((report["width"], report["height"]), (320, 180), "the picture")
    check(abs(report["duration"] - 2) < 0.2 and report["seekable"] > 1.9, report)
    check(all(status == 206 for asked, status, _, _ in Backend.asked if asked), Backend.asked)
    check(any(asked for asked, *_ in Backend.asked), "no range was asked for", Backend.asked)


if __name__ == "__main__":
    main()
