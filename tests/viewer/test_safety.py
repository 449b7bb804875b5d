"""Safety: who is answered, what a page may do, which forms count, and hostile data that stays text."""

from __future__ import annotations

import http.client
from urllib.parse import quote, urlencode, urlsplit

import httpx
import pytest

from discretion import rulings
from discretion.saved import load
from discretion.viewer.safety import HEADERS

from .asking import FAILURES, PATHS, Seen, Viewer

pytestmark = pytest.mark.slow


def raw(viewer: Viewer, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> http.client.HTTPResponse:
    """Ask exactly so, nothing put right."""
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(viewer.url).port, timeout=20)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    if body or method == "POST":
        connection.putheader("content-length", str(len(body)))
    connection.endheaders(body)
    response = connection.getresponse()
    response.text = response.read().decode()
    connection.close()
    return response


def assert_headers(response: httpx.Response | http.client.HTTPResponse) -> None:
    for name, value in HEADERS.items():
        assert response.headers[name] == value
    assert "unsafe" not in response.headers["content-security-policy"]


def test_every_response_has_the_headers(viewer: Viewer) -> None:
    tag = viewer.client.get("/static/style.css").headers["etag"]
    responses = [viewer.client.get(path) for path in (*PATHS, *FAILURES, "/report")]
    responses += [viewer.client.post(path) for path in ("/rulings", "/cases", "/nowhere")]
    responses += [viewer.client.get("/static/style.css", headers={"if-none-match": tag}), viewer.client.head("/cases")]
    responses += [viewer.client.get("/", headers={"host": "evil.example"}), viewer.rule("c3")]
    statuses = {r.status_code for r in responses}
    assert {200, 303, 304, 400, 403, 404, 405, 421} <= statuses
    for response in responses:
        assert_headers(response)
        fixed = response.request.url.path.startswith("/static/") and response.status_code in (200, 304)
        assert response.headers["cache-control"] == ("no-cache" if fixed else "no-store")
        assert "server" not in response.headers


def test_only_its_own_names_are_answered(viewer: Viewer) -> None:
    port = urlsplit(viewer.url).port
    for name in ("127.0.0.1", "localhost", "[::1]"):
        assert raw(viewer, "GET", "/", {"host": f"{name}:{port}"}).status == 200
    for host in (
        "127.0.0.1", f"evil.example:{port}", f"127.0.0.1:{port + 1}", f"127.0.0.1.evil.example:{port}",
        f"evil@127.0.0.1:{port}", f"0.0.0.0:{port}", "",
    ):  # fmt: skip
        response = raw(viewer, "GET", "/cases", {"host": host})
        assert response.status in (400, 421), host
        assert "c5" not in response.text


def test_other_sites_can_lead_here_but_not_load_from_here(viewer: Viewer) -> None:
    for site in ("cross-site", "same-site"):
        loaded = viewer.client.get("/cases", headers={"sec-fetch-site": site, "sec-fetch-mode": "no-cors"})
        assert loaded.status_code == 403
        led = viewer.client.get("/cases", headers={"sec-fetch-site": site, "sec-fetch-mode": "navigate"})
        assert led.status_code == 200


def test_a_ruling_needs_this_viewers_own_form(viewer: Viewer) -> None:
    shown = viewer.page("/case?id=c4")
    fields = {
        "token": shown.hidden["token"], "place": "id=c4", "ruling": "first", "governed": "0", "reason": "r",
        "reviewer": "x",
    }  # fmt: skip
    before = rulings.read(viewer.folder)

    def send(headers: dict[str, str], **changes: str) -> int:
        return viewer.client.post("/rulings", data={**fields, **changes}, headers=headers).status_code

    own = {"origin": viewer.url}
    for headers in (
        {}, {"origin": "null"}, {"origin": "https://evil.example"}, {"origin": viewer.url.replace("http:", "https:")},
        {"origin": "http://127.0.0.1:1"}, {"origin": viewer.url.replace("127.0.0.1", "localhost")},
        {"sec-fetch-site": "same-site"}, {"sec-fetch-site": "none"},
        {"origin": "https://evil.example", "sec-fetch-site": "same-origin"},
    ):  # fmt: skip
        assert send(headers) == 403, headers
    assert send(own, token=fields["token"][:-1]) == 403
    assert send(own, place="id=nobody") == 404
    assert send(own, place="") == 404
    assert send(own, place="id=c4&state=harmony") == 400
    for media_type in ("text/plain", "multipart/form-data; boundary=x", "application/json", ""):
        body = urlencode(fields).encode()
        answer = viewer.client.post("/rulings", content=body, headers={**own, "content-type": media_type})
        assert answer.status_code == 415
    assert rulings.read(viewer.folder) == before
    assert send({"sec-fetch-site": "same-origin"}) == 303
    assert send(own) == 303


def test_large_and_broken_forms_are_refused(viewer: Viewer) -> None:
    form = {"origin": viewer.url, "content-type": "application/x-www-form-urlencoded"}

    def send(content: object) -> int:
        return viewer.client.post("/rulings", content=content, headers=form).status_code

    assert send(b"a=" + b"x" * 65_534) != 413
    assert send(b"a=" + b"x" * 65_535) == 413
    assert send(iter([b"x" * 40_000] * 2)) == 413, "a body that does not say how long it is"
    assert send(b"&".join([b"a=1"] * 1200)) == 400
    assert send(b"reason=%ff%fe") == 400
    assert send("reason=ä".encode()) == 400
    assert send(b"") == 404
    assert viewer.page("/").sound(), "it still answers"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/%2e%2e/app.py", "/static//etc/passwd",
        "/static/....//app.py", "/static/style.css/../../audit.json", "/static/style.css%00.html", "/../audit.json",
        "/static/audit.json", "/audit.json", "/static/", "/static/..%5capp.py", "//etc/passwd", "/static/viewer.css/",
    ],
)  # fmt: skip
def test_no_other_file_can_be_read(viewer: Viewer, path: str) -> None:
    response = raw(viewer, "GET", path, {"host": urlsplit(viewer.url).netloc})
    assert response.status in (307, 400, 404), response.text[:200]
    assert "sha256" not in response.text
    assert "import" not in response.text
    assert "root:" not in response.text


def test_hostile_data_stays_text(hostile: Viewer) -> None:
    ids = load(hostile.folder).table.ids.to_list()
    governed = [str(k) for k in range(12)]
    for k, attack in enumerate(("</textarea><script>x</script>", "{{ 7*7 }}", "\u202e\x1b[31m")):
        made = hostile.rule(ids[k], reason=attack, governed=governed, reviewer="<script>alert(1)</script>")
        assert made.status_code == 303, made.text[-3000:]
        assert made.headers["location"].startswith("/case?id=")
    broken = hostile.rule(ids[0], reason="</textarea><script>x</script>", reviewer='"><script>', governed=None)
    assert broken.status_code == 422
    assert Seen.of(broken.text).sound()
    todo, done = ["/", "/cases", "/rulings", f"/case?{urlencode({'id': ids[0]})}"], set()
    while todo and len(done) < 90:
        path = todo.pop(0)
        if path in done or path.startswith(("/rulings.jsonl", "/report")):  # the report has tests of its own
            continue
        done.add(path)
        response = hostile.client.get(path)
        assert response.status_code == 200, (path, Seen.of(response.text).text[:300])
        seen = Seen.of(response.text)
        assert seen.sound()
        assert "49" not in "".join(w for w in seen.words if "{{ 7" in w)
        todo += [link.split("#")[0] for link in seen.links if link.startswith("/")]
    assert len(done) == 90
    for attack in ("<script>alert(1)</script>", '"><img src=x>', "{{ 7*7 }}", "\u202e", "\r\nset-cookie: a=b"):
        for parameter in ("text", "state", "principle", "id", "done", "page", "is.x", attack):
            response = hostile.client.get(f"/cases?{quote(parameter)}={quote(attack)}")
            assert response.status_code in (200, 400)
            assert Seen.of(response.text).sound()
            assert "set-cookie" not in response.headers
        assert Seen.of(hostile.client.get(f"/case?id={quote(attack)}").text).sound()
        assert Seen.of(hostile.client.get(f"/rulings?principle={quote(attack)}").text).sound()


def test_the_forms_choices_are_understood_as_a_browser_sends_them(hostile: Viewer) -> None:
    seen = hostile.page("/cases")
    options = seen.attributes("option", "value")
    selects = seen.attributes("select", "name")
    names = load(hostile.folder).table.constitution.names
    assert set(names) <= {o.replace("\ufffd", "\0") for o in options} | set(options)
    for name in names:
        sent = name.replace("\0", "\ufffd").replace("\n", "\r\n")
        assert hostile.client.get("/cases", params={"principle": sent}).status_code == 200
    (attribute,) = [s for s in selects if s.startswith("is.")]
    for value in hostile.page("/cases").attributes("option", "value"):
        if value.startswith(("<script>window", '"><img')) and not value[-1].isdigit():
            assert hostile.client.get("/cases", params={attribute: value}).status_code == 200
