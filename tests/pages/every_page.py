"""Every page, as the operator and as the owner of an account see it: what axe finds, whether it fits a phone, whether it
works without script, and a picture of it in light, in dark and on a phone.

Usage: every_page.py BASE TOKEN PICTURES
"""

import re
import sys

from browser import DESK, PHONE, Browser, accessible, calm, expect, fits, picture, sign_in, sign_in_operator

BASE, TOKEN, PICTURES = sys.argv[1:4]
LOOKS = [
    ("light", {"color_scheme": "light", "viewport": DESK}),
    ("dark", {"color_scheme": "dark", "viewport": DESK}),
    ("phone", {"color_scheme": "light", "viewport": PHONE}),
]
# Pages that hang on a thing are reached by the first link to one.
BELOW = {
    "/deliveries": r"/deliveries/[0-9a-z_-]{10,}$",
    "/files": r"/files/\d+$",
    "/applications": r"/applications/[^/?#]+$",
    "/accounts": r"/accounts/[^/?#]+$",
    "/subscriptions": r"/subscriptions/[^/?#]+$",
}


def paths(page):
    """The pages at the head, and one below each that has any."""
    heads = page.locator("header nav a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    found = []
    for head in heads:
        found.append(head)
        page.goto(head)
        links = page.locator("main a").evaluate_all("links => links.map(link => link.pathname)")
        found += [link for link in links if head in BELOW and re.search(BELOW[head], link)][:1]
    return found


def name_of(path):
    path = re.sub(r"/(ntf_[0-9a-f]+|\d+)$", "/one", path.split("?")[0])
    return re.sub(r"[^a-z0-9]+", "-", path.lower()).strip("-") or "overview"


def main():
    with Browser() as browser:
        signed_out = browser.visitor(BASE)
        for path in ["/sign-in", "/nothing/is/here"]:
            signed_out.goto(path)
            accessible(signed_out, path)
            picture(signed_out, PICTURES, "nobody-" + name_of(path))
        calm(signed_out)
        for who, enter in [
            ("operator", lambda page: sign_in_operator(page, TOKEN)),
            ("account", lambda page: sign_in(page, "test2", "secret")),
        ]:
            first = browser.visitor(BASE)
            enter(first)
            every = paths(first)
            assert len(every) >= 8, every
            session = first.context.storage_state()
            for look, more in LOOKS:
                page = browser.visitor(BASE, storage_state=session, **more)
                for path in every:
                    where = "%s, %s, as %s" % (path, look, who)
                    answer = page.goto(path)
                    assert answer.status == 200, "%s: %d" % (where, answer.status)
                    accessible(page, where)
                    fits(page, where)
                    picture(page, PICTURES, "%s-%s-%s" % (who, name_of(path), look))
                calm(page)
                page.context.close()
            # Without script every page says the same, but for what is live.
            page = browser.visitor(BASE, storage_state=session, java_script_enabled=False)
            for path in every:
                assert page.goto(path).status == 200
                expect(page.locator("main h1")).to_be_visible()
                expect(page.get_by_role("button", name="Sign out")).to_be_visible()
            page.context.close()
            # Without a mouse: the first key leads past the head, the next into the content.
            first.goto("/")
            first.keyboard.press("Tab")
            expect(first.get_by_role("link", name="To the content")).to_be_focused()
            first.keyboard.press("Enter")
            expect(first.locator("main")).to_be_focused()
            calm(first)
    print("ok done")


if __name__ == "__main__":
    main()
