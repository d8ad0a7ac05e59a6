"""The whole story of a person: connect a receiver, test it, drop a file, see it told, see it fetched.

Usage: story_person.py BASE ROOT PICTURES
"""

import base64
import hashlib
import hmac
import http.server
import json
import pathlib
import queue
import sys
import threading
import time
import urllib.request

from browser import Browser, accessible, calm, expect, fits, picture, sign_in

BASE, ROOT, PICTURES = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
NAME, PASSWORD = "test2", "secret"
ARRIVED = "SEED/results of today.csv"


class Receiver:
    """What the person's application is: it takes notifications, and checks them with the key it was given."""

    def __init__(self):
        self.notifications = queue.Queue()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.notifications.put((body, self.headers["X-Nextcloud-File-Upload-Notification-Signature"]))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d/hook" % self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def next(self, key):
        body, signature = self.notifications.get(timeout=30)
        assert hmac.compare_digest(hmac.new(key.encode(), body, hashlib.sha256).hexdigest(), signature), signature
        return json.loads(body)


def fetch(since):
    """What the receiver does when it was told."""
    path = "/ocs/v2.php/apps/file_upload_notification/api/recent?format=json&since=" + since
    login = base64.b64encode(("%s:%s" % (NAME, PASSWORD)).encode()).decode()
    request = urllib.request.Request(BASE + path, headers={"Authorization": "Basic " + login, "OCS-APIRequest": "true"})
    return json.load(urllib.request.urlopen(request))["ocs"]["data"]["files"]


def main():
    receiver = Receiver()
    with Browser() as browser:
        page = browser.visitor(BASE)
        # Whoever is not signed in is asked to, and comes to where they wanted to go.
        page.goto("/settings/user/file_upload_notification")
        expect(page.get_by_role("heading", name="Sign in", exact=True)).to_be_visible()
        page.get_by_label("Account", exact=True).fill(NAME)
        page.get_by_label("Password", exact=True).fill("wrong")
        page.get_by_role("button", name="Sign in", exact=True).click()
        expect(page.get_by_role("alert")).to_have_text("Account or password is wrong.")
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).click()

        # A mistake is shown at its field, and nothing that was typed is lost.
        page.get_by_label("Connection URL").fill("nowhere")
        page.get_by_label("Connection ID").fill(BASE + ":" + NAME)
        page.get_by_label("Notification interval").fill("1")
        page.get_by_role("button", name="Generate").click()
        key = page.get_by_label("Connection common key")
        expect(key).not_to_have_value("")
        key = key.input_value()
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_label("Connection URL")).to_have_attribute("aria-invalid", "true")
        expect(page.get_by_label("Connection ID")).to_have_value(BASE + ":" + NAME)
        accessible(page, "the connection page with a mistake")
        page.get_by_label("Connection URL").fill(receiver.url)
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("status")).to_be_visible()
        expect(page.get_by_label("Connection common key")).to_have_value(key)

        # The test is a real delivery.
        page.get_by_role("button", name="Test").click()
        expect(page.locator("main")).to_contain_text("200")
        receiver.next(key)
        accessible(page, "the outcome of a test")
        picture(page, PICTURES, "story-tested")

        # A file lands, the bell rings.
        (ROOT / ARRIVED).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / ARRIVED).write_text("a,b\n1,2\n")
        told = receiver.next(key)
        assert told["id"] == BASE + ":" + NAME, told

        page.get_by_role("link", name="Deliveries").click()
        see(page, page.locator(".state", has_text="delivered").first)
        page.get_by_role("link", name="Files").click()
        page.get_by_role("link", name=ARRIVED).first.click()
        expect(page.locator("main")).to_contain_text("delivered")
        picture(page, PICTURES, "story-told")

        # The application comes and fetches.
        files = fetch(told["since"])
        assert any(file["path"] == "/" + ARRIVED for file in files), files
        see(page, page.locator("dd", has_text="account test2 (recent)").first)
        accessible(page, "the life of a file")
        fits(page, "the life of a file")
        picture(page, PICTURES, "story-fetched")

        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in", exact=True)).to_be_visible()
        page.goto("/deliveries")
        expect(page.get_by_role("heading", name="Sign in", exact=True)).to_be_visible()
        calm(page)
    print("ok done")


def see(page, what):
    """Waits until a page, loaded again, shows something."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if what.is_visible():
            return
        page.reload()
    sys.exit("%s never shows %s:\n%s" % (page.url, what, page.inner_text("main")))


if __name__ == "__main__":
    main()
