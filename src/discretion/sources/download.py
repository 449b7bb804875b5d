"""Fetching the public files of the HH study into a cache, each verified by its size and checksum.

Written beside its place and renamed once it is right, so that what is in the cache is whole; a file that
broke off is fetched anew.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from urllib.parse import quote

from discretion import __version__
from discretion.errors import DownloadError, shown

TOTAL_LIMIT = 64 * 2**20
"""Bytes that one call may fetch: ten times what the listed files add up to."""

TIMEOUT_SECONDS = 30.0
"""How long a silent connection is waited for."""

_CHUNK = 2**16
_OFFLINE = (
    "Check the connection (or the proxy in HTTPS_PROXY) and call again: files already there are kept. "
    "Without one, put the files into the folder by hand, under their published paths."
)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class PublicFile:
    """A public file: where it is published and what it has to be."""

    sha256: str
    size: int
    repository: str
    commit: str
    path: str

    def url(self, base_url: str | None = None) -> str:
        """Return its address, at the publisher or below `base_url`."""
        path = quote(self.path)
        if base_url is not None:
            return f"{base_url.rstrip('/')}/{path}"
        site, _, name = self.repository.partition(":")
        if site == "github":
            return f"https://raw.githubusercontent.com/{name}/{self.commit}/{path}"
        return f"https://huggingface.co/datasets/{name}/resolve/{self.commit}/{path}"


def public_files() -> tuple[PublicFile, ...]:
    """Return the public files of the HH study."""
    text = resources.files("discretion.sources").joinpath("published.sha256").read_text("utf-8")
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return tuple(PublicFile(sha, int(size), repository, commit, path) for sha, size, repository, commit, path in lines)


def default_cache() -> Path:
    """Return `$DISCRETION_CACHE`, or a folder in the platform's cache."""
    named = os.environ.get("DISCRETION_CACHE")
    if named:
        return Path(named)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "discretion"


def download(
    cache: str | Path | None = None,
    only: Collection[str] | None = None,
    *,
    base_url: str | None = None,
    timeout: float = TIMEOUT_SECONDS,
    progress: Progress | None = None,
    files: Collection[PublicFile] | None = None,
) -> Path:
    """Fetch the public files of the HH study, about 6 MB, and verify them.

    Parameters
    ----------
    cache : path, optional
        Where to; by default `default_cache()`. The files lie in its folder `hh`.
    only : names, optional
        Published paths, or the last parts of them; by default all.
    base_url : str, optional
        Where from, in place of the publishers.
    timeout : float
        Seconds that a silent connection is waited for.
    progress : callable, optional
        Called with a path, the bytes of it that are there and its size, after each piece.
    files : of PublicFile, optional
        By default `public_files()`.

    Returns
    -------
    Path
        The folder, for `published_hh`. Files in it that are right are not fetched again.

    Raises
    ------
    DownloadError
        A file could not be fetched, or is not what was published; it says what to do.
    """
    folder = (default_cache() if cache is None else Path(cache)) / "hh"
    wanted = _wanted(public_files() if files is None else files, only)
    missing = [file for file in wanted if not _is_right(folder / file.path, file)]
    if sum(file.size for file in missing) > TOTAL_LIMIT:
        raise DownloadError(f"the files add up to more than {TOTAL_LIMIT:,} bytes; name some of them with `only`.")
    for file in missing:
        _fetch(file, folder / file.path, file.url(base_url), timeout, progress)
    return folder


def _wanted(files: Collection[PublicFile], only: Collection[str] | None) -> list[PublicFile]:
    if only is None:
        return list(files)
    wanted = []
    for name in [only] if isinstance(only, str) else only:
        found = [file for file in files if name in (file.path, file.path.rpartition("/")[2])]
        if not found:
            names = ", ".join(file.path for file in files)
            raise DownloadError(f"there is no public file {shown(name)}. Expected one of {names}.")
        wanted += found
    return wanted


def _is_right(path: Path, file: PublicFile) -> bool:
    try:
        if path.stat().st_size != file.size:
            return False
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest() == file.sha256
    except OSError:
        return False


def _fetch(file: PublicFile, path: Path, url: str, timeout: float, progress: Progress | None) -> None:
    # The process id keeps two calls at once out of each other's way; whichever ends last is as right.
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(
            f"{path.parent}: cannot be made: {error.strerror}. Name another folder, or set DISCRETION_CACHE."
        ) from error
    try:
        _stream(file, part, url, timeout, progress)
        os.replace(part, path)
    except urllib.error.HTTPError as error:
        with error:  # it holds the connection
            hint = "The file was moved or removed." if error.code in (403, 404, 410) else "Try again later."
            raise DownloadError(f"{url}: the server answered {error.code} {error.reason}. {hint} {_OFFLINE}") from error
    except (urllib.error.URLError, TimeoutError, http.client.HTTPException, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        what = f"no answer within {timeout:g} s" if isinstance(reason, TimeoutError) else str(reason) or repr(reason)
        raise DownloadError(f"{url}: could not be fetched: {what}. {_OFFLINE}") from error
    except DownloadError:
        raise
    except (OSError, ValueError) as error:  # ValueError: an address that is none
        raise DownloadError(f"{url} -> {path}: {error}. Check the address and the room on the disk.") from error
    finally:
        part.unlink(missing_ok=True)


def _stream(file: PublicFile, part: Path, url: str, timeout: float, progress: Progress | None) -> None:
    if not url.startswith(("https://", "http://")):
        raise DownloadError(f"{shown(url)} is no web address.")
    digest, size = hashlib.sha256(), 0
    request = urllib.request.Request(url, headers={"User-Agent": f"discretion/{__version__}"})
    with urllib.request.urlopen(request, timeout=timeout) as answer, part.open("wb") as out:
        # One byte more than it should have tells a longer file, without fetching all of that.
        while chunk := answer.read(min(_CHUNK, file.size + 1 - size)):
            size += len(chunk)
            digest.update(chunk)
            out.write(chunk)
            if progress is not None:
                progress(file.path, size, file.size)
    if size != file.size:
        raise DownloadError(
            f"{url}: has {'more than ' if size > file.size else ''}{min(size, file.size):,} bytes; expected "
            f"{file.size:,}. The transfer broke off or the file was changed: call again."
        )
    if digest.hexdigest() != file.sha256:
        raise DownloadError(
            f"{url}: has the checksum {digest.hexdigest()[:12]}…; expected {file.sha256[:12]}…. "
            "What came is not the published file (a proxy's page?): nothing of it was kept."
        )
