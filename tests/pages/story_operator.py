"""The whole story of an operator: register an application, have it paired by consent, replay what it missed.

Usage: story_operator.py BASE TOKEN ROOT PICTURES
"""

import http.server
import pathlib
import queue
import sys
import threading
import time
import urllib.parse

from browser import Browser, accessible, calm, expect, picture, sign_in, sign_in_operator

BASE, TOKEN, ROOT, PICTURES = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]), sys.argv[4]
ARRIVED = "SEED/<img src=x onerror=alert(1)>.csv"
CUSTOMER = "https://x3.example.com"


class Application:
    """What is registered: it answers notifications as it is told, and takes the browser back after consent."""

    def __init__(self):
        self.answer = 503
        self.received = queue.Queue()
        application = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = 200 if self.path.startswith("/callback") else application.answer
                application.received.put((self.path, status, body))
                answer = b"<!doctype html><title>Paired</title><p>Paired.</p><script>alert(1)</script>"
                self.send_response(status)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d" % self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait_for(self, path, status):
        while True:
            seen = self.received.get(timeout=30)
            if seen[0].startswith(path) and seen[1] == status:
                return seen[2]


def main():
    application = Application()
    with Browser() as browser:
        page = browser.visitor(BASE)
        page.goto("/sign-in")
        page.get_by_label("Admin token").fill("not this")
        page.get_by_role("button", name="Sign in as the operator").click()
        expect(page.get_by_role("alert")).to_have_text("This is not the admin token.")
        sign_in_operator(page, TOKEN)

        # Register: the secret is shown once.
        page.get_by_role("link", name="Applications").click()
        page.get_by_label("Name").fill("ledger")
        page.get_by_label("Redirect URLs").fill(application.url + "/callback")
        page.get_by_label("Notification URL").fill(application.url + "/notification")
        page.get_by_role("button", name="Register").click()
        secret = page.locator(".secret").last.inner_text().strip()
        assert len(secret) > 20, secret
        client = page.locator("main").inner_text()
        accessible(page, "a registered application")
        page.goto("/applications/ledger")
        assert secret not in page.content()
        client = page.locator("dt:text-is('Client id') + dd").inner_text().strip()

        # Consent: the owner of the files decides.
        owner = browser.visitor(BASE)
        asked = {
            "client_id": client,
            "scope": "api.dataDelivery",
            "customer": CUSTOMER,
            "redirect_uri": application.url + "/callback",
            "state": "where-i-was",
        }
        (ROOT / "SEED").mkdir(exist_ok=True)
        owner.goto("/v1/token/authorise?" + urllib.parse.urlencode(asked))
        accessible(owner, "the login of a pairing")
        owner.get_by_label("Account", exact=True).fill("test2")
        owner.get_by_label("Password", exact=True).fill("secret")
        owner.get_by_role("button", name="Log in").click()
        accessible(owner, "the consent page")
        picture(owner, PICTURES, "story-consent")
        owner.get_by_label("SEED").check()
        owner.get_by_role("button", name="Accept").click()
        owner.get_by_role("button", name="Continue to ledger").click()
        application.wait_for("/callback", 200)
        owner.context.close()

        # A file lands while the application fails, until its notification is given up.
        (ROOT / ARRIVED).write_text("1")
        application.wait_for("/notification", 503)
        dead(page)
        picture(page, PICTURES, "story-dead")
        page.locator("main a[href*='/deliveries/ntf_']").first.click()
        expect(page.locator("main")).to_contain_text(ARRIVED)
        expect(page.locator("main")).to_contain_text("503")
        accessible(page, "a dead letter")
        assert secret not in page.content()

        # The application is repaired, and told again.
        application.answer = 200
        page.get_by_text("Tell it again").click()
        page.get_by_role("button", name="Tell again").click()
        application.wait_for("/notification", 200)
        told(page)
        picture(page, PICTURES, "story-replayed")

        # Whose files they are can take it back.
        owner = browser.visitor(BASE)
        sign_in(owner, "test2", "secret")
        owner.get_by_role("link", name="Applications").click()
        expect(owner.locator("main")).to_contain_text("ledger")
        accessible(owner, "the applications of an account")
        calm(owner)
        calm(page)
    print("ok done")


def dead(page):
    """Waits until the list of dead letters has one."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        page.goto("/deliveries?state=dead")
        if page.locator("main a[href*='/deliveries/ntf_']").count():
            return
    sys.exit("nothing is given up:\n" + page.inner_text("main"))


def told(page):
    """Waits until the page of a notification says that it was delivered."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if page.locator(".state.good", has_text="delivered").count():
            return
        page.reload()
    sys.exit("it is never delivered:\n" + page.inner_text("main"))


if __name__ == "__main__":
    main()
