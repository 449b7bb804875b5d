"""Saved audits: a folder of JSON and Parquet, versioned, checksummed, written whole or not at all.

Everything comes back as it was, the table and the texts included: later tools need no second source.
"""

from __future__ import annotations

import ctypes
import errno
import glob
import hashlib
import json
import os
import secrets
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from discretion.audit import FRAMES, Audit, Settings
from discretion.comparison import Comparisons
from discretion.constitution import Constitution, Principle
from discretion.errors import SavedAuditError, shown
from discretion.folder_lock import held
from discretion.table import Annotator, Exclusion, PreferenceTable
from discretion.vote import MISSING, Votes

FORMAT = "discretion audit"
FORMAT_VERSION = 1
MANIFEST = "audit.json"
_DERIVED = ("report.html",)
"""Drawn from the old figures: beside the new ones it would contradict them."""
_STALE_SECONDS = 24 * 3600.0
_ANSWERS = ("first", "second", "neither")


def save(audit: Audit, folder: str | Path, *, texts: bool = True) -> Path:
    """Write an audit to a folder; an audit that stood there is replaced in one step, other files beside it stay.

    Rulings recorded meanwhile stay too. A report of the old figures goes.

    Parameters
    ----------
    audit : Audit
    folder : path
        May be absent, or a saved audit. Anything else is left alone.
    texts : bool
        Whether to store the prompts and responses too, where the audit has them.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    SavedAuditError
        Something else stands there, or the folder cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and not _is_ours(folder):
        raise SavedAuditError(
            f"{folder} exists and is no saved audit (it has no {MANIFEST} of one). "
            "Choose another folder, or move it away."
        )
    place = folder.resolve()  # behind a link, and of a name of its own where "." was given
    part = place.with_name(f".{place.name}.{secrets.token_hex(4)}.part")
    try:
        part.mkdir(parents=True)
        _sweep(place)
        _write(audit, part, texts)
        if place.exists():
            with held(place):  # who records a ruling waits, and then finds the new folder
                _replace(place, part)
        else:
            part.rename(place)
    except (OSError, pl.exceptions.PolarsError) as error:  # polars has its own for a full disk
        raise SavedAuditError(f"the audit could not be written to {folder}: {error}. Nothing was changed.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _replace(place: Path, part: Path) -> None:
    """Put a new audit where an old one stands, with what others put beside it."""
    _carry_over(place, part)
    if _exchange(part, place):
        return
    old = place.with_name(f".{place.name}.{secrets.token_hex(4)}.old")
    place.rename(old)
    try:
        part.rename(place)
    except BaseException:
        old.rename(place)
        raise
    shutil.rmtree(old)


def _sweep(place: Path) -> None:
    """Remove what killed runs left half-written beside an audit; younger parts may belong to a run under way."""
    for left in place.parent.glob(f".{glob.escape(place.name)}.????????.part"):
        if time.time() - left.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)


def _carry_over(old: Path, new: Path) -> None:
    """Copy what others put beside a saved audit (lists to relabel, rulings): replacing it must not lose them."""
    manifest = json.loads((old / MANIFEST).read_bytes())
    written = {MANIFEST, *_DERIVED, *manifest.get("files", ())}
    for entry in old.iterdir():
        if entry.name in written or (new / entry.name).exists():
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, new / entry.name, symlinks=True)
        else:
            shutil.copy2(entry, new / entry.name, follow_symlinks=False)
            if os.name == "posix" and not entry.is_symlink():
                _sync(new / entry.name)  # a ruling was on the disk once it was recorded, and has to stay there


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two folders in one step, so that a process killed at any moment leaves a whole audit; Linux only."""
    if sys.platform != "linux":
        return False
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(here, os.fsencode(first), here, os.fsencode(second), swap) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL):  # the kernel or the file system does not know how
        return False
    raise OSError(code, os.strerror(code))


def _is_ours(folder: Path) -> bool:
    """Whether a folder's manifest is that of an audit: other tools have an audit.json too."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(manifest, dict) and manifest.get("format") == FORMAT


def _write(audit: Audit, folder: Path, texts: bool) -> None:
    table = audit.table
    files: dict[str, pl.DataFrame] = {f"{name}.parquet": getattr(audit, name) for name in FRAMES}
    files["table.parquet"] = _table_frame(table)
    files["ratings.parquet"] = _ratings_frame(table)
    if any(a.about for a in table.annotators):
        files["people.parquet"] = _people_frame(table)
    if table.oracle is not None:
        files["oracle.parquet"] = _votes_frame(table.oracle)
    for k, annotator in enumerate(table.annotators):
        if annotator.votes is not None:
            files[f"judge-{k}.parquet"] = _votes_frame(annotator.votes)
    if texts and audit.comparisons is not None:
        files["cases.parquet"] = audit.comparisons.frame
    described = {}
    for name, frame in files.items():
        frame.write_parquet(folder / name, compression="zstd", statistics=False)
        described[name] = {"rows": frame.height, "sha256": _checksum(folder / name)}
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": audit.name,
        "settings": asdict(audit.settings),
        "warnings": list(audit.warnings),
        "constitution": {
            "name": table.constitution.name,
            "digest": table.constitution.digest,
            "principles": [{"name": p.name, "text": p.text} for p in table.constitution],
        },
        "annotators": [
            {
                "name": a.name,
                "kind": a.kind,
                "source": a.source,
                "sparse": a.rows is not None,
                "minimum_mass": None if a.votes is None else a.votes.minimum_mass,
            }
            for a in table.annotators
        ],
        "oracle_minimum_mass": None if table.oracle is None else table.oracle.minimum_mass,
        "exclusions": [asdict(e) for e in table.exclusions],
        "texts_from": None if audit.comparisons is None else audit.comparisons.origin,
        "files": described,
    }
    manifest["sha256"] = _digest(manifest)
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        # Only ASCII: a name from a file system may hold what UTF-8 cannot.
        json.dump(manifest, file, ensure_ascii=True, indent=1, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def load(folder: str | Path) -> Audit:
    """Read a saved audit; every frame, array and text is what was saved.

    Raises
    ------
    SavedAuditError
        The folder is no saved audit, was written by a newer version, or a file is missing or was altered.
    """
    folder = Path(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    except OSError as error:
        raise SavedAuditError(f"{folder} is no saved audit: {MANIFEST} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise SavedAuditError(f"{folder / MANIFEST} is not JSON: {error}.") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise SavedAuditError(f"{folder / MANIFEST} does not describe a {FORMAT}.")
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise SavedAuditError(
            f"{folder} has the format version {shown(version)}; this version of the package reads {FORMAT_VERSION}. "
            "Audit the study again, or use the version that wrote it."
        )
    if manifest.get("sha256") != _digest(manifest):
        raise SavedAuditError(f"{folder / MANIFEST} is not the file that was saved: its checksum differs.")
    try:
        files = {name: _read(folder, name, about["sha256"]) for name, about in manifest["files"].items()}
        return _assemble(manifest, files)
    except SavedAuditError:
        raise
    except (AttributeError, LookupError, OSError, TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise SavedAuditError(f"{folder} is incomplete or was altered: {type(error).__name__} {error}.") from error


def is_saved_audit(path: str | Path) -> bool:
    """Whether a path looks like a folder that `save` wrote."""
    return (Path(path) / MANIFEST).is_file()


def require_saved(folder: str | Path) -> Path:
    """Return a folder that holds a saved audit, without reading it whole; a `SavedAuditError` where it does not."""
    if not _is_ours(Path(folder)):
        raise SavedAuditError(
            f"{folder} is no saved audit: it has no {MANIFEST} of one. Make it with: discretion audit."
        )
    return Path(folder)


def _assemble(manifest: dict[str, Any], files: dict[str, pl.DataFrame]) -> Audit:
    wide = files["table.parquet"]
    wording = manifest["constitution"]
    constitution = Constitution(tuple(Principle(p["name"], p["text"]) for p in wording["principles"]), wording["name"])
    X = np.empty((wide.height, len(constitution)), np.int8, order="F")
    for c in range(len(constitution)):
        X[:, c] = _votes_of(wide[f"principle {c}"])
    ratings = files["ratings.parquet"]
    by_annotator = {int(k[0]): g for k, g in ratings.partition_by("annotator", as_dict=True).items()}
    people = files.get("people.parquet")
    about = {} if people is None else _about(people)
    annotators = []
    for k, entry in enumerate(manifest["annotators"]):
        rows = times = orders = None
        if entry["sparse"]:
            part = by_annotator.get(k, ratings.clear())
            rows, values = part["row"].to_numpy().astype(np.int32), _votes_of(part["value"])
            if "time" in part.columns and part["time"].null_count() < part.height:
                times = part["time"].fill_null(np.nan).to_numpy()
            if "order" in part.columns and part["order"].null_count() < part.height:
                orders = _votes_of(part["order"])
        else:
            values = _votes_of(wide[f"annotator {k}"])
        judged = files.get(f"judge-{k}.parquet")
        votes = None if judged is None else _votes_from(judged, entry["minimum_mass"])
        annotators.append(
            Annotator(
                entry["name"], values, rows, entry["kind"], entry["source"], votes, about.get(k, {}), times, orders
            )
        )
    attributes = wide.select([c for c in wide.columns if c.startswith("attribute ")])
    oracle = files.get("oracle.parquet")
    table = PreferenceTable(
        ids=wide["id"],
        constitution=constitution,
        X=X,
        annotators=tuple(annotators),
        attributes=attributes.rename(lambda c: c.removeprefix("attribute ")) if attributes.width else pl.DataFrame(),
        oracle=None if oracle is None else _votes_from(oracle, manifest["oracle_minimum_mass"], len(constitution)),
        exclusions=tuple(
            Exclusion(e["source"], e["what"], e["count"], tuple(e["examples"])) for e in manifest["exclusions"]
        ),
    )
    settings = manifest["settings"]
    cases = files.get("cases.parquet")
    return Audit(
        name=manifest["name"],
        settings=Settings(**{**settings, "confidences": tuple(settings["confidences"])}),
        table=table,
        **{name: files[f"{name}.parquet"] for name in FRAMES},
        warnings=tuple(manifest["warnings"]),
        comparisons=None if cases is None else Comparisons(cases, manifest["texts_from"] or ""),
    )


def _read(folder: Path, name: str, checksum: str) -> pl.DataFrame:
    path = folder / name
    if Path(name).name != name:
        raise SavedAuditError(f"{folder / MANIFEST} names a file outside the audit: {shown(name)}.")
    if not path.is_file():
        raise SavedAuditError(f"{folder} is incomplete: {name} is missing.")
    if _checksum(path) != checksum:
        raise SavedAuditError(f"{path} is not the file that was saved: its checksum differs.")
    return pl.read_parquet(path)


def _digest(manifest: dict[str, Any]) -> str:
    """Return the checksum of a manifest, of all but the place where it stands."""
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _table_frame(table: PreferenceTable) -> pl.DataFrame:
    columns = [table.ids.alias("id")]
    columns += [table.attributes[c].alias(f"attribute {c}") for c in table.attributes.columns]
    columns += [_nullable(f"principle {c}", table.X[:, c]) for c in range(len(table.constitution))]
    columns += [_nullable(f"annotator {k}", a.values) for k, a in enumerate(table.annotators) if a.rows is None]
    return pl.DataFrame(columns)


def _ratings_frame(table: PreferenceTable) -> pl.DataFrame:
    sparse = [(k, a) for k, a in enumerate(table.annotators) if a.rows is not None]
    if not sparse:
        return pl.DataFrame(schema={"annotator": pl.Int32, "row": pl.Int32, "value": pl.Int8})
    rows = [a.rows for _, a in sparse if a.rows is not None]
    sizes = [len(r) for r in rows]
    columns = [
        pl.Series("annotator", np.repeat([k for k, _ in sparse], sizes), dtype=pl.Int32),
        pl.Series("row", np.concatenate(rows), dtype=pl.Int32),
        _nullable("value", np.concatenate([a.values for _, a in sparse])),
    ]
    if any(a.times is not None for _, a in sparse):
        times = [np.full(n, np.nan) if a.times is None else a.times for (_, a), n in zip(sparse, sizes, strict=True)]
        columns.append(pl.Series("time", np.concatenate(times)).fill_nan(None))
    if any(a.orders is not None for _, a in sparse):
        orders = [
            np.full(n, MISSING, np.int8) if a.orders is None else a.orders
            for (_, a), n in zip(sparse, sizes, strict=True)
        ]
        columns.append(_nullable("order", np.concatenate(orders)))
    return pl.DataFrame(columns)


def _people_frame(table: PreferenceTable) -> pl.DataFrame:
    """Return a row for everything that is known of somebody: annotator, name, value."""
    rows = [(k, name, value) for k, a in enumerate(table.annotators) for name, value in a.about.items()]
    return pl.DataFrame(rows, {"annotator": pl.Int32, "name": pl.String, "value": pl.String}, orient="row")


def _about(people: pl.DataFrame) -> dict[int, dict[str, str]]:
    found: dict[int, dict[str, str]] = {}
    for k, name, value in people.iter_rows():
        found.setdefault(k, {})[name] = value
    return found


def _nullable(name: str, votes: np.ndarray[Any, np.dtype[np.int8]]) -> pl.Series:
    series = pl.Series(name, votes, dtype=pl.Int8)
    return series.set(series == MISSING, None)


def _votes_of(series: pl.Series) -> np.ndarray[Any, np.dtype[np.int8]]:
    return series.fill_null(MISSING).to_numpy().astype(np.int8, copy=False)


def _votes_frame(votes: Votes) -> pl.DataFrame:
    """Return a row a comparison, with a column for each order, principle (none for a judge) and answer."""
    flat = votes.probabilities.reshape(2, votes.probabilities.shape[1], -1, 3)
    return pl.DataFrame(
        {
            f"order {k}, {c}, {answer}": flat[k, :, c, at]
            for k in range(2)
            for c in range(flat.shape[2])
            for at, answer in enumerate(_ANSWERS)
        }
    )


def _votes_from(frame: pl.DataFrame, minimum_mass: float, principles: int | None = None) -> Votes:
    width = 1 if principles is None else principles
    array = frame.to_numpy().reshape(frame.height, 2, width, 3).transpose(1, 0, 2, 3)
    return Votes(np.ascontiguousarray(array[:, :, 0] if principles is None else array), minimum_mass)
