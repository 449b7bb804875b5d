"""The ledger of batches: which were submitted, so that a killed run finds its own again and pays nothing twice.

Two files a batch, written before anything is submitted: what was asked, by which results are read, and the requests.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from discretion.errors import JudgeError
from discretion.judges.asking import Ask, Block, Question
from discretion.judges.calls import Call

Request = tuple[Call, dict[str, Any]]
"""A call and its body."""

MOST_BYTES = 180_000_000
"""Of a file of requests; the API takes 200 MB."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A batch.

    Parameters
    ----------
    path : Path
        Where the entry stands.
    mark : str
        What the batch is found by at the endpoint, in its metadata.
    judge : str
        The digest of the judge's identity.
    address : str
        The endpoint's.
    batch : str
        The endpoint's id of the batch; "" before it is known.
    """

    path: Path
    mark: str
    judge: str
    address: str
    batch: str = ""

    def calls(self) -> dict[str, Call]:
        """Return the calls by their custom id; their blocks hold no texts.

        Raises
        ------
        JudgeError
            The file is no entry of a ledger.
        """
        found: dict[str, Call] = {}
        try:
            with self.path.open(encoding="utf-8") as lines:
                next(lines)
                for line in lines:
                    given = json.loads(line)
                    asks = tuple(
                        Ask(bytes.fromhex(key), Question(name), order, sample)
                        for key, name, order, sample in given["asks"]
                    )
                    found[given["id"]] = Call(Block(given["case"], None, "", "", asks), asks)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise JudgeError(f"{self.path} is no entry of a ledger of batches. Move it away: {error}.") from error
        return found

    @property
    def requests(self) -> Path:
        """The file that is uploaded: the prompts, a request a line."""
        return self.path.with_suffix(".requests")

    def bodies(self, names: Collection[str]) -> dict[str, dict[str, Any]]:
        """Return the bodies of some requests; those that are not there any more are left out."""
        found: dict[str, dict[str, Any]] = {}
        if names and self.requests.is_file():
            with self.requests.open("rb") as lines:
                for line in lines:
                    request = json.loads(line)
                    if request["custom_id"] in names:
                        found[request["custom_id"]] = request["body"]
        return found

    def named(self, batch: str) -> Entry:
        """Return the entry with the endpoint's id, and keep it."""
        made = replace(self, batch=batch)
        beside = self.path.with_suffix(".id.part")
        beside.write_text(batch, "utf-8")
        os.replace(beside, self.path.with_suffix(".id"))
        return made

    def close(self) -> None:
        """Forget the batch: its results are delivered, or it never came to be."""
        self.path.unlink(missing_ok=True)
        self.path.with_suffix(".id").unlink(missing_ok=True)
        self.requests.unlink(missing_ok=True)


def entered(
    folder: Path, judge: str, address: str, requests: Iterable[Request], most: int, most_bytes: int = MOST_BYTES
) -> Iterator[Entry]:
    """Enter batches that are about to be submitted, each within the limits of the API; yield them one after another.

    An entry and its requests are on the disk when it is yielded.

    Raises
    ------
    JudgeError
        The folder cannot be written to.
    """
    source = iter(requests)
    held = next(source, None)
    while held is not None:
        mark = secrets.token_hex(12)
        path = folder / f"{mark}.jsonl"
        made = Entry(path, mark, judge, address)
        part = folder / f".{mark}.part"
        count = size = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with part.open("w", encoding="utf-8") as file, made.requests.open("wb") as sent:
                file.write(json.dumps({"mark": mark, "judge": judge, "address": address}) + "\n")
                while held is not None and count < most:
                    call, body = held
                    name = custom_id(call)
                    request = {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}
                    line = json.dumps(request).encode() + b"\n"
                    if count and size + len(line) > most_bytes:
                        break
                    sent.write(line)
                    asks = [(a.key.hex(), a.question.name, a.order, a.sample) for a in call.asks]
                    file.write(json.dumps({"id": name, "case": call.block.case, "asks": asks}) + "\n")
                    count, size = count + 1, size + len(line)
                    held = next(source, None)
                for stream in (file, sent):
                    stream.flush()
                    os.fsync(stream.fileno())
            os.replace(part, path)
        except OSError as error:
            part.unlink(missing_ok=True)
            made.requests.unlink(missing_ok=True)
            raise JudgeError(f"the ledger of batches {folder} cannot be written: {error.strerror or error}.") from error
        yield made


def entries(folder: Path, judge: str, address: str) -> Iterator[Entry]:
    """Yield the batches of a judge at an endpoint whose results were not delivered yet.

    Raises
    ------
    JudgeError
        An entry cannot be read.
    """
    for path in sorted(folder.glob("*.jsonl")):
        try:
            with path.open(encoding="utf-8") as lines:
                head: dict[str, Any] = json.loads(next(lines))
            given = Entry(path, head["mark"], head["judge"], head["address"])
        except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
            raise JudgeError(f"{path} is no entry of a ledger of batches. Move it away, and run this again.") from error
        if (given.judge, given.address) == (judge, address):
            known = path.with_suffix(".id")
            yield replace(given, batch=known.read_text("utf-8").strip()) if known.is_file() else given


def sweep(folder: Path) -> None:
    """Remove what a run left that was killed between two steps; only while no other run has the ledger."""
    kept = {path.stem for path in folder.glob("*.jsonl")}
    for path in folder.iterdir():
        if path.name.endswith(".part") or (path.suffix in (".requests", ".id") and path.stem not in kept):
            path.unlink(missing_ok=True)


def custom_id(call: Call) -> str:
    """Return what a call is known by within a batch: the key of its first judgement."""
    return call.asks[0].key.hex()
