"""Writing a file whole or not at all: beside its place first, then renamed into it.

Who asks says which error it is, since a reader of the message knows what was to be written.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from pathlib import Path

from discretion.errors import DiscretionError, shown


def write_whole(path: Path, write: Callable[[Path], object], wrong: type[DiscretionError]) -> Path:
    """Write a file and return its path.

    Parameters
    ----------
    path : Path
        Its folder is made if there is none.
    write : callable
        Given the path to write to, which is not yet the file's.
    wrong : type
        Raised, from the error of the system, where the file cannot be written.
    """
    import polars as pl

    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(part)
        part.replace(path)
    except (OSError, pl.exceptions.PolarsError) as error:  # polars has its own for a full disk
        reason = getattr(error, "strerror", None) or str(error)
        raise wrong(f"{shown(str(path), 400)} cannot be written: {reason.rstrip('.')}.") from error
    finally:
        with contextlib.suppress(OSError):  # where a file stands in the place of the folder, too
            part.unlink(missing_ok=True)
    return path
