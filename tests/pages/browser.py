"""A real browser on the pages of a running filebell, for the stories beside this file."""

import json
import pathlib
import sys

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
PATIENCE_MS = 30_000
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
AXE = Axe()

expect.set_options(timeout=PATIENCE_MS)


class Browser:
    """One Chromium; every context of it is a visitor of their own."""

    def __enter__(self):
        self.playwright = sync_playwright().start()
        # The sandbox needs rights that containers do not give; the pages are our own.
        self.chromium = self.playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        return self

    def __exit__(self, *_):
        self.chromium.close()
        self.playwright.stop()

    def visitor(self, base, **more):
        """A page of a fresh visitor. What the browser complains of is gathered in `page.complaints`."""
        context = self.chromium.new_context(base_url=base, viewport=more.pop("viewport", DESK), **more)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.complaints = []
        page.on("pageerror", lambda error: page.complaints.append("script: %s" % error))
        page.on("dialog", lambda dialog: (page.complaints.append("dialog: " + dialog.message), dialog.dismiss()))
        page.on("console", lambda message: complain(page, message))
        return page


def complain(page, message):
    # A status of 4xx is reported as an error too; those are part of the stories.
    if message.type == "error" and "Failed to load resource" not in message.text:
        page.complaints.append("console: " + message.text)


def sign_in(page, name, password):
    page.goto("/sign-in")
    page.get_by_label("Account", exact=True).fill(name)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def sign_in_operator(page, token):
    page.goto("/sign-in")
    page.get_by_label("Admin token").fill(token)
    page.get_by_role("button", name="Sign in as the operator").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def accessible(page, where):
    """Fails if axe finds anything wrong with the page as it stands."""
    found = AXE.run(page).response["violations"]
    if found:
        told = [
            "%s: %s\n  %s" % (one["id"], one["help"], "\n  ".join(node["html"][:200] for node in one["nodes"][:5]))
            for one in found
        ]
        sys.exit("axe finds on %s:\n%s" % (where, "\n".join(told)))


def fits(page, where):
    """Fails if a page is wider than the window: nothing must be reachable by scrolling sideways only."""
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if wide > 1:
        sys.exit("%s is %d pixels wider than the window" % (where, wide))


def calm(page):
    if page.complaints:
        sys.exit("the browser complains: " + json.dumps(page.complaints, indent=1))


def picture(page, folder, name):
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    page.screenshot(path=pathlib.Path(folder) / (name + ".png"), full_page=True)
