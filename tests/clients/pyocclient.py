"""What GakuNin RDM does with a Nextcloud, done by the client it does it with.

Usage: pyocclient.py BASE USER PASSWORD
"""

import base64
import hashlib
import hmac
import http.server
import json
import os
import queue
import sys
import tempfile
import threading
import time
import urllib.parse
import xml.etree.ElementTree as ET

import owncloud
import requests

BASE, USER, PASSWORD = sys.argv[1:4]
HEADER = "X-Nextcloud-File-Upload-Notification-Signature"
NC = "{http://nextcloud.org/ns}"
RECENT = "apps/file_upload_notification"


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes notifications as the app's own example receiver does."""

    got = queue.Queue()
    key = None

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        expected = hmac.new(self.key.encode(), body, hashlib.sha256).hexdigest()
        right = hmac.compare_digest(expected, self.headers.get(HEADER, ""))
        self.send_response(200 if right else 403)
        self.end_headers()
        if right:
            self.got.put(json.loads(body))

    def log_message(self, *_):
        pass


def recent(client, since):
    """Reads the answer by position, as RDM does."""
    ocs = client.make_ocs_request("GET", RECENT, "api/recent?since=%s" % since)
    meta, data = ET.fromstring(ocs.content)
    assert (meta[0].text, meta[1].text) == ("ok", "100"), ocs.content
    assert int(data[0].text) == len(data[1])
    return [{child.tag: child.text for child in element} for element in data[1]]


def properties(client, path):
    """RDM's own PROPFIND of its timestamps, without a depth."""
    body = (
        '<?xml version="1.0"?><d:propfind xmlns:d="DAV:" xmlns:nc="http://nextcloud.org/ns"><d:prop>'
        "<nc:grdm-timestamp/><nc:grdm-timestamp-status/></d:prop></d:propfind>"
    )
    res = client._session.request("PROPFIND", client._webdav_url.rstrip("/") + "/" + urllib.parse.quote(path), data=body)
    assert res.status_code == 207, res.text
    prop = ET.fromstring(res.content)[0].find("{DAV:}propstat")[0]
    return {child.tag: child.text for child in prop}


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ocs = {"OCS-APIRequest": "true"}
    app = BASE.rstrip("/") + "/index.php/apps/file_upload_notification/"
    Receiver.key = requests.get(app + "secret", auth=(USER, PASSWORD), headers=ocs).json()["secret"]
    settings = {
        "id": "%s:%s" % (BASE.rstrip("/"), USER),
        "url": "http://127.0.0.1:%d/hook" % server.server_port,
        "interval": "1",
        "secret": Receiver.key,
    }
    answer = requests.post(app + "config", data=settings, auth=(USER, PASSWORD), headers=ocs)
    assert (answer.status_code, answer.json()) == (200, settings), answer.text

    client = owncloud.Client(BASE)
    client.login(USER, PASSWORD)
    begun = int(time.time())
    folder = "rdm %d" % os.getpid()
    assert client.mkdir(folder)
    with tempfile.NamedTemporaryFile(suffix=".bin") as local:
        content = os.urandom(100_000)
        local.write(content)
        local.flush()
        assert client.put_file(folder + "/a ü&<.bin", local.name)
        back = local.name + ".back"
        assert client.get_file(folder + "/a ü&<.bin", back)
        with open(back, "rb") as file:
            assert file.read() == content
        os.remove(back)
    assert client.put_file_contents(folder + "/b.txt", "hello")
    assert client.put_file_contents(folder + "/b.txt", "hello again")
    assert client.get_file_contents(folder + "/b.txt") == b"hello again"
    names = sorted(info.get_name() for info in client.list(folder))
    assert names == ["a ü&<.bin", "b.txt"], names
    assert client.file_info(folder + "/b.txt").get_size() == 11

    notification = Receiver.got.get(timeout=20)
    assert notification["id"] == settings["id"], notification
    assert list(notification) == ["id", "min_interval", "since"], notification
    files = {}
    for since in (notification["since"], str(begun), " 0 "):
        files = {file["path"]: file for file in recent(client, since)}
        assert "/%s/b.txt" % folder in files, (since, files)
    file = files["/%s/a ü&<.bin" % folder]
    assert list(file) == ["id", "type", "time", "name", "path", "modified_user"], file
    assert (file["type"], file["modified_user"]) == ("file", USER), file
    assert recent(client, "4000000000") == []
    try:
        recent(client, "soon")
        raise AssertionError("a since that is no number is refused")
    except owncloud.OCSResponseError as error:
        assert error.status_code == 400, error

    # E5: timestamps are kept with the file, and follow it.
    path, stamp = folder + "/b.txt", base64.b64encode(b"stamp" * 50).decode()
    assert properties(client, path) == {NC + "grdm-timestamp": None, NC + "grdm-timestamp-status": None}
    body = (
        '<?xml version="1.0"?><d:propertyupdate xmlns:d="DAV:" xmlns:nc="http://nextcloud.org/ns"><d:set><d:prop>'
        "<nc:grdm-timestamp>%s</nc:grdm-timestamp><nc:grdm-timestamp-status>1</nc:grdm-timestamp-status>"
        "</d:prop></d:set></d:propertyupdate>" % stamp
    )
    res = client._session.request("PROPPATCH", client._webdav_url.rstrip("/") + "/" + urllib.parse.quote(path), data=body)
    assert res.status_code == 207 and b"200 OK" in res.content, res.content
    kept = {NC + "grdm-timestamp": stamp, NC + "grdm-timestamp-status": "1"}
    assert properties(client, path) == kept
    assert client.move(path, folder + "/c.txt")
    assert properties(client, folder + "/c.txt") == kept
    assert client.copy(folder + "/c.txt", folder + "/d.txt")
    assert client.delete(folder)
    assert not any(file["path"].startswith("/%s/" % folder) for file in recent(client, begun))
    print("pyocclient %s: ok, as GakuNin RDM uses it" % sys.prefix.rsplit("-", 1)[-1])


main()
