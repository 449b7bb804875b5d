"""Downloads from a server on this machine: whole, verified and resumed, or an error that says what to do."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from discretion.errors import DownloadError
from discretion.sources.download import PublicFile, default_cache, download, public_files
from discretion.sources.published import PUBLISHED

BODY = b"row_id,reward_a,reward_b\n0,1,2\n" * 9_000


def public(path: str, body: bytes = BODY) -> PublicFile:
    return PublicFile(hashlib.sha256(body).hexdigest(), len(body), "github:a/b", "c0ffee", path)


class Server(ThreadingHTTPServer):
    """Answers by the name that is asked for, and remembers what was."""

    daemon_threads = True
    asked: list[str]


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.server.asked.append(self.path)
        name = self.path.rpartition("/")[2]
        if name in ("404", "500"):
            self.send_error(int(name))
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        if name == "stalls":
            self.wfile.write(BODY[:100])
            self.wfile.flush()
            time.sleep(1.5)
        elif name == "cut":
            self.wfile.write(BODY[:100_000])
        else:
            self.wfile.write(BODY if name != "changed" else BODY.replace(b"1", b"3"))

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server(("127.0.0.1", 0), Answer)
    found.asked = []
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def test_files_come_whole_and_only_once(server: Server, tmp_path: Path) -> None:
    files = [public("a/one.csv"), public("two words.csv")]
    seen: list[tuple[str, int, int]] = []
    folder = download(tmp_path, base_url=url(server), files=files, progress=lambda *step: seen.append(step))
    assert folder == tmp_path / "hh"
    assert (folder / "a/one.csv").read_bytes() == BODY == (folder / "two words.csv").read_bytes()
    assert seen[-1] == ("two words.csv", len(BODY), len(BODY))
    assert server.asked == ["/a/one.csv", "/two%20words.csv"]
    (folder / "a/one.csv").write_bytes(BODY[:-1] + b"x")
    download(tmp_path, base_url=url(server), files=files)
    assert server.asked[2:] == ["/a/one.csv"]
    assert [p.name for p in folder.rglob("*.part")] == []


def test_only_some(server: Server, tmp_path: Path) -> None:
    files = [public("a/one.csv"), public("a/two.csv")]
    download(tmp_path, ["two.csv"], base_url=url(server), files=files)
    assert server.asked == ["/a/two.csv"]
    with pytest.raises(DownloadError, match=r"no public file 'three'.*a/one\.csv"):
        download(tmp_path, ["three"], base_url=url(server), files=files)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("404", "answered 404.*moved or removed.*by hand"),
        ("500", "answered 500.*later"),
        ("cut", "100,000 bytes; expected 279,000|could not be fetched"),
        ("changed", "checksum"),
        ("stalls", "no answer within|timed out"),
    ],
)
def test_what_goes_wrong_leaves_nothing(server: Server, tmp_path: Path, name: str, match: str) -> None:
    with pytest.raises(DownloadError, match=match):
        download(tmp_path, base_url=url(server), files=[public(name)], timeout=0.3)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_longer_file_is_not_fetched_to_its_end(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="has more than 1,000 bytes"):
        download(tmp_path, base_url=url(server), files=[public("x", BODY[:1000])])


def test_offline_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"could not be fetched.*Check the connection"):
        download(tmp_path, base_url="http://127.0.0.1:9", files=[public("x")], timeout=1)
    with pytest.raises(DownloadError, match="no web address"):
        download(tmp_path, base_url="file:///etc", files=[public("x")])


def test_an_interrupted_download_goes_on(server: Server, tmp_path: Path) -> None:
    files = [public("one.csv"), public("404"), public("two.csv")]
    with pytest.raises(DownloadError):
        download(tmp_path, base_url=url(server), files=files)
    download(tmp_path, ["one.csv", "two.csv"], base_url=url(server), files=files)
    assert server.asked == ["/one.csv", "/404", "/two.csv"]


def test_too_much_is_refused_before_anything_is_fetched(server: Server, tmp_path: Path) -> None:
    huge = PublicFile("0" * 64, 10**9, "github:a/b", "c", "huge")
    with pytest.raises(DownloadError, match="more than"):
        download(tmp_path, base_url=url(server), files=[huge])
    assert server.asked == []


def test_a_cache_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DownloadError, match="DISCRETION_CACHE"):
        download(tmp_path / "file", base_url=url(server), files=[public("x")])


def test_the_cache_is_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCRETION_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("DISCRETION_CACHE")
    assert default_cache().name == "discretion"


def test_the_public_files_are_those_of_the_table() -> None:
    files = {file.path: file for file in public_files()}
    assert len(files) == 11
    assert sum(row.file in files for row in PUBLISHED) == 7
    assert (
        files["principles/ccai_seed.txt"]
        .url()
        .startswith("https://raw.githubusercontent.com/maartenbuyl/alignment-discretion/baa147351605")
    )
    assert files["harmless-base/test.jsonl.gz"].url() == (
        "https://huggingface.co/datasets/Anthropic/hh-rlhf/resolve/"
        "354e5c3cb8960630860dd5774a6ac2a58313bf4d/harmless-base/test.jsonl.gz"
    )


@pytest.mark.shared
def test_the_public_files_have_the_listed_checksums(shared: Path) -> None:
    listed = (shared / "data" / "published.sha256").read_text()
    for file in public_files():
        assert f"{file.sha256}  {file.size}  {file.path}" in listed
    by_name = {file.path.rpartition("/")[2]: file for file in public_files()}
    data = (shared / "data/hh/hh_test_generic_4ob.csv").read_bytes()
    assert hashlib.sha256(data).hexdigest() == by_name["hh_test_generic_4ob.csv"].sha256
