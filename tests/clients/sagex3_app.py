"""An application of Sage X3's data delivery, written from its specification only.

Pairs with consent through HTTP forms, receives, verifies, consumes, downloads, deletes, renews, loses the reply of a
renewal and recovers; then does the standard part of OAuth with Authlib. Any surprise ends it with a traceback.

usage: sagex3_app.py BASE_URL PORT INBOX ADMIN_TOKEN_FILE
"""

import base64
import hashlib
import hmac
import html.parser
import http.server
import json
import os
import pathlib
import queue
import re
import secrets
import sys
import threading
import time
import urllib.parse

import requests
from authlib.integrations.requests_client import OAuth2Session
from joserfc import jwt
from joserfc.jwk import KeySet

CLIENT_ID = "5b2f6f0e-2a41-4a0c-9d5e-7f3c1b8e9a10"
CLIENT_SECRET = "s3cr3t-Example"
CUSTOMER = "https://x3.example.com"
PATIENCE = 30

BASE, PORT, INBOX, ADMIN = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3]), pathlib.Path(sys.argv[4])
ENDPOINT = f"{BASE}/v1"
REDIRECT = f"http://127.0.0.1:{PORT}/x3/callback"
# Loopback stands in for https here.
os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"

callbacks: "queue.Queue[dict]" = queue.Queue()
notifications: "queue.Queue[dict]" = queue.Queue()
seen_ids: set = set()


def step(text):
    print(f"ok {text}", flush=True)


class App(http.server.BaseHTTPRequestHandler):
    """The application's own two addresses."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/x3/callback":
            assert self.headers["Content-Type"] == "application/x-www-form-urlencoded"
            callbacks.put(dict(urllib.parse.parse_qsl(body.decode(), strict_parsing=True)))
            return self.answer(200)
        tags = self.headers.get_all("HMAC_SHA256") or []
        expected = hmac.new(CLIENT_ID.encode(), body, hashlib.sha256)
        good = len(tags) == 1 and any(
            hmac.compare_digest(tags[0].encode(), one)
            for one in (expected.hexdigest().encode(), base64.b64encode(expected.digest()))
        )
        if not good:
            return self.answer(401)
        pushed = json.loads(body)
        if pushed["notificationId"] not in seen_ids:
            seen_ids.add(pushed["notificationId"])
            notifications.put(pushed)
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Form(html.parser.HTMLParser):
    """The one form of a page: where it goes, its fields, and what can be ticked."""

    def __init__(self, page):
        super().__init__()
        self.action, self.fields, self.boxes, self.scripts = None, [], [], 0
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "form":
            assert self.action is None and attrs["method"] == "post"
            self.action = attrs["action"]
        elif tag == "script":
            self.scripts += 1
        elif tag == "input" and attrs["type"] == "checkbox":
            self.boxes.append((attrs["name"], attrs["value"]))
        elif tag == "input":
            self.fields.append((attrs["name"], attrs.get("value", "")))

    def with_(self, **changed):
        return [(name, changed.pop(name, value)) for name, value in self.fields] + list(changed.items())


def consent(url):
    """What the customer's person does in a browser; answers the response to the decision."""
    browser = requests.Session()
    page = browser.get(url, headers={"Accept": "text/html"}, timeout=PATIENCE)
    assert page.status_code == 200, page.text
    form = Form(page.text)
    wrong = browser.post(
        urllib.parse.urljoin(page.url, form.action), form.with_(name="test2", password="wrong"), timeout=PATIENCE
    )
    assert wrong.status_code == 403, wrong.text
    form = Form(wrong.text)
    page = browser.post(
        urllib.parse.urljoin(page.url, form.action), form.with_(name="test2", password="secret"), timeout=PATIENCE
    )
    assert page.status_code == 200 and page.history[0].status_code == 303, page.text
    assert page.headers["X-Frame-Options"] == "DENY" and "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    form = Form(page.text)
    assert form.scripts == 0 and ("folder", "SEED") in form.boxes, page.text
    assert "ledger" in page.text and "api.dataDelivery" in page.text
    return browser.post(
        urllib.parse.urljoin(page.url, form.action),
        form.with_(folder="SEED", decision="accept"),
        allow_redirects=False,
        timeout=PATIENCE,
    )


def claims(token):
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


class Pairing:
    """The tokens of one customer."""

    def __init__(self, tokens):
        self.take(tokens)

    def take(self, tokens):
        self.access, self.refresh = tokens["access_token"], tokens["refresh_token"]
        self.expires_at = claims(self.access)["exp"]

    def call(self, method, path, **more):
        if self.expires_at - time.time() < 60:
            self.renew()
        headers = {"Authorization": f"Bearer {self.access}"}
        return requests.request(
            method, f"{ENDPOINT}/{path}", headers=headers, allow_redirects=False, timeout=PATIENCE, **more
        )

    def ask_for_renewal(self):
        body = {
            "grant_type": "refresh_token",
            "refresh_token": self.refresh,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
        }
        return requests.post(f"{ENDPOINT}/token", json=body, timeout=PATIENCE)

    def renew(self):
        answer = self.ask_for_renewal()
        assert answer.status_code == 200, answer.text
        self.take(answer.json())


def pair():
    state = secrets.token_urlsafe(32)
    query = {
        "client_id": CLIENT_ID,
        "scope": "api.dataDelivery",
        "customer": CUSTOMER,
        "redirect_uri": REDIRECT,
        "state": state,
    }
    back = consent(f"{ENDPOINT}/token/authorise?{urllib.parse.urlencode(query)}")
    assert back.status_code == 200, back.text
    form = Form(back.text)
    assert form.action == REDIRECT and form.scripts == 0
    assert requests.post(form.action, form.fields, timeout=PATIENCE).status_code == 200
    called = callbacks.get(timeout=PATIENCE)
    assert called["state"] == state and set(called) == {"authorizationCode", "state"}, called
    step("paired by consent, the answer posted by the browser")
    body = {
        "code": called["authorizationCode"],
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "grant_type": "authorization_code",
        "redirect_uri": REDIRECT,
    }
    answer = requests.post(f"{ENDPOINT}/token", json=body, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    tokens = answer.json()
    assert tokens["scope"] == "api.dataDelivery folder.SEED"
    told = claims(tokens["access_token"])
    assert told["exp"] - told["iat"] == 300 and told["iss"] == told["aud"] == urllib.parse.urlsplit(BASE).hostname
    assert "jti" in claims(tokens["refresh_token"]) and isinstance(told["scopes"], str)
    step("code exchanged")
    return Pairing(tokens)


def listing(pairing):
    files, link, pages = [], "SEED", set()
    while link and link not in pages:
        pages.add(link)
        answer = pairing.call("GET", f"datadelivery/{link}")
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert page["maxItems"] == "50" and page["itemsCount"] == len(page["items"])
        files += page["items"]
        link = page.get("$next")
    return files


def download(pairing, name):
    path = f"datadelivery/SEED?filename={urllib.parse.quote(name, safe='')}"
    answer = pairing.call("GET", path)
    assert answer.status_code == 302, answer.text
    # Without the token: it must not leak to the storage.
    part = requests.get(answer.headers["Location"], headers={"Range": "bytes=0-0"}, timeout=PATIENCE)
    assert part.status_code == 206 and len(part.content) == 1
    whole = requests.get(answer.headers["Location"], timeout=PATIENCE)
    assert whole.status_code == 200
    return whole.content


def receive(pairing, name, content):
    """One file by push and by poll, processed once."""
    target = INBOX / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    pushed = notifications.get(timeout=PATIENCE)
    assert list(pushed) == ["notificationId", "source", "customerUrl", "customerID", "datetime", "detailUrl"], pushed
    assert pushed["source"] == "dataDeliveryApi" and pushed["customerUrl"] == CUSTOMER
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", pushed["datetime"])
    assert pushed["detailUrl"] == f"{ENDPOINT}/notification/{pushed['notificationId']}"
    detail = pairing.call("GET", f"notification/{pushed['notificationId']}").json()
    assert detail["notificationID"] == pushed["notificationId"] and detail["customerId"] == pushed["customerID"]
    payload = json.loads(detail["payload"])
    assert payload["eventKind"] == "dataDeliveryFileAvailable" and payload["folder"] == "SEED"
    assert payload["fileName"] == name, payload
    done = set()
    found = [file for file in listing(pairing) if file["key"] == name]
    for file in found + found:
        work = ("SEED", file["key"], file["checksum"])
        if work in done:
            continue
        done.add(work)
        got = download(pairing, name)
        assert got == content and len(got) == file["size"]
        assert file["checksum"] == f'"{hashlib.md5(got).hexdigest()}"'
    assert len(done) == 1
    gone = pairing.call("DELETE", f"datadelivery/{found[0]['deleteUrl']}")
    assert (gone.status_code, gone.content) == (204, b"")
    assert not target.exists() and name not in [file["key"] for file in listing(pairing)]
    step(f"{name} told, verified, consumed, downloaded, deleted")


def lose_a_renewal(pairing):
    before = pairing.refresh
    assert pairing.ask_for_renewal().status_code == 200  # its reply is lost
    pairing.renew()
    assert pairing.refresh != before and pairing.call("GET", "folders").status_code == 200
    step("a lost renewal recovered")


def standard_client():
    """What is standard, by a client that knows only the standard."""
    told = requests.get(f"{BASE}/.well-known/oauth-authorization-server", timeout=PATIENCE).json()
    client = OAuth2Session(
        CLIENT_ID, CLIENT_SECRET, scope="api.dataDelivery", redirect_uri=REDIRECT, code_challenge_method="S256"
    )
    verifier = secrets.token_urlsafe(48)
    url, state = client.create_authorization_url(
        told["authorization_endpoint"], code_verifier=verifier, customer=CUSTOMER, response_mode="query"
    )
    back = consent(url)
    assert back.status_code == 303, back.text
    to = back.headers["Location"]
    assert dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(to).query))["iss"] == told["issuer"]
    token = client.fetch_token(
        told["token_endpoint"], authorization_response=to, state=state, code_verifier=verifier
    )
    keys = KeySet.import_key_set(requests.get(told["jwks_uri"], timeout=PATIENCE).json())
    assert jwt.decode(token["access_token"], keys, algorithms=["RS256"]).claims["scopes"] == token["scope"]
    assert client.get(f"{ENDPOINT}/folders", timeout=PATIENCE).json()["folders"][0]["name"] == "SEED"
    token = client.refresh_token(told["token_endpoint"], refresh_token=token["refresh_token"])
    active = client.introspect_token(told["introspection_endpoint"], token=token["access_token"]).json()
    assert active["active"] and active["client_id"] == CLIENT_ID, active
    assert client.revoke_token(told["revocation_endpoint"], token=token["refresh_token"]).status_code == 200
    dead = client.introspect_token(told["introspection_endpoint"], token=token["access_token"]).json()
    assert dead == {"active": False}, dead
    step("Authlib: PKCE, refresh, introspection, revocation, keys")
    own = OAuth2Session(CLIENT_ID, CLIENT_SECRET)
    token = own.fetch_token(told["token_endpoint"], grant_type="client_credentials")
    assert "refresh_token" not in token
    assert own.get(f"{ENDPOINT}/folders", timeout=PATIENCE).status_code == 200
    step("Authlib: client_credentials")


def taken_back(pairing):
    headers = {"Authorization": f"Bearer {ADMIN.read_text().strip()}"}
    gone = requests.delete(f"{BASE}/api/v1/grants/ledger/test2", headers=headers, timeout=PATIENCE)
    assert gone.status_code == 204, gone.text
    refused = pairing.call("GET", "folders")
    assert (refused.status_code, refused.json()) == (401, {"message": "Unauthorised"})
    refused = pairing.ask_for_renewal()
    assert (refused.status_code, refused.json()) == (403, {"message": "The request has expired."})
    step("a consent taken back ends the tokens at once")


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), App)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pairing = pair()
    receive(pairing, "orders.txt", b"hello\n")
    receive(pairing, "sub/\u00fcber & co +1.txt", os.urandom(300_000))
    lose_a_renewal(pairing)
    receive(pairing, "after.txt", b"after the renewal")
    standard_client()
    body = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "refresh_token": "not one"}
    assert pairing.call("DELETE", "token", json=body).status_code == 204
    taken_back(pairing)
    step("done")


main()
