"""A running case explorer and its pages, asked for and read as a browser does."""

from __future__ import annotations

import json
import signal
import subprocess
import unicodedata
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx

from ..studies import environment, start

PATHS = (
    "/", "/cases", "/cases?state=conflict&page=2", "/case?id=c5", "/case?id=c5&annotator=people", "/rulings",
    "/rulings.jsonl", "/rulings.jsonl?standing=1", "/static/style.css", "/static/viewer.css", "/static/viewer.js",
)  # fmt: skip
FAILURES = {
    "/nowhere": 404, "/static/nothing.css": 404, "/case?id=nobody": 404, "/case": 404, "/report/": 404,
    "/cases?state=harmony": 400, "/cases?annotator=nobody": 400, "/cases?side=with": 400, "/case?id=c5&over=x": 400,
    "/cases?is.nothing=1": 400,
}  # fmt: skip


@dataclass
class Viewer:
    """A running case explorer."""

    folder: Path
    process: subprocess.Popen[str]
    url: str
    client: httpx.Client

    @classmethod
    def start(cls, folder: Path) -> Viewer:
        process = subprocess.Popen(
            start("view", folder, "--port", 0, "--no-open", "--json"),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
        )  # fmt: skip
        line = process.stdout.readline()
        assert line, process.stderr.read()
        url = json.loads(line)["url"].rstrip("/")
        return cls(folder, process, url, httpx.Client(base_url=url, timeout=30))

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, err = self.process.communicate(timeout=30)
        return self.process.returncode, err

    def page(self, path: str, status: int = 200) -> Seen:
        response = self.client.get(path)
        assert response.status_code == status, response.text[:2000]
        return Seen.of(response.text)

    def rule(self, case: str, *, query: str = "", **changes: object) -> httpx.Response:
        """Send the form of a case as a browser would; a change of None leaves a field out."""
        shown = self.page(f"/case?{urlencode({'id': case})}&{query}")
        fields = {
            "token": shown.hidden["token"], "place": shown.hidden["place"], "ruling": "first", "governed": ["0"],
            "reason": "It helps.", "reviewer": "Ann", **changes,
        }  # fmt: skip
        sent = {name: value for name, value in fields.items() if value is not None}
        return self.client.post("/rulings", data=sent, headers={"origin": self.url})


_TAGS = """
html head meta title link script body a header div nav main h1 h2 h3 p bdi span ul ol li b br table thead tbody tr th td
section svg rect form label input fieldset legend select option button textarea details summary aside mark blockquote
dl dt dd time
"""
TAGS = frozenset(_TAGS.split())
SHOWN_ATTRIBUTES = ("aria-label", "title", "placeholder")


@dataclass
class Seen(HTMLParser):
    """A page as a parser sees it: its tags, links and words."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    hidden: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str) -> Seen:
        seen = cls()
        HTMLParser.__init__(seen, convert_charrefs=True)
        seen.feed(text)
        seen.close()
        return seen

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag == "input" and given.get("type") == "hidden":
            self.hidden.setdefault(given["name"], given["value"])

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def attributes(self, tag: str, name: str) -> list[str]:
        return [given[name] for t, given in self.tags if t == tag and given.get(name) is not None]

    @property
    def links(self) -> list[str]:
        return self.attributes("a", "href")

    @property
    def cases(self) -> list[str]:
        """The ids of the cases in a list, in its order."""
        found = [dict(parse_qsl(urlsplit(link).query)).get("id") for link in self.links if link.startswith("/case?")]
        return [i for i in found if i is not None]

    def sound(self) -> bool:
        """Whether the page holds nothing but this viewer's own markup, and shows no character that would reorder it."""
        assert {tag for tag, _ in self.tags} <= TAGS
        for tag, given in self.tags:
            assert not [name for name in given if name.startswith("on") or name in ("style", "srcdoc")], (tag, given)
            for name in ("href", "src", "action"):
                assert given.get(name) is None or given[name].startswith(("/", "#", "data:,")), given
                assert not (given.get(name) or "").startswith("//")
            for name in SHOWN_ATTRIBUTES:
                assert not hidden_characters(given.get(name) or ""), given
        assert self.attributes("script", "src") == ["/static/viewer.js"]
        assert len([tag for tag, _ in self.tags if tag == "script"]) == 1
        assert not hidden_characters("".join(self.words))
        ids = [given["id"] for _, given in self.tags if "id" in given]
        assert len(ids) == len(set(ids))
        return True


def hidden_characters(text: str) -> list[str]:
    return [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") and c not in "\n\t"]
