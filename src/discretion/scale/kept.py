"""Tallies kept on the disk as they are made: an audit that was cut off counts only what is missing.

One file for each partition, written whole and named by a hash of all that its counts depend on: a partition that has
changed, other columns or another seed are counted anew. The price is that files that nobody asks for again stay.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import astuple, dataclass
from pathlib import Path

import discretion
from discretion.errors import SavedAuditError
from discretion.scale.partitions import Columns
from discretion.scale.places import Partition, Place
from discretion.scale.tally import Dealing, Tallies, pack, unpack
from discretion.whole import write_whole


@dataclass(frozen=True)
class Kept:
    """The tallies of one way to count.

    Parameters
    ----------
    folder : Path
    way : str
        All that counts depend on but the partition: place, columns, dealing, version.
    """

    folder: Path
    way: str

    @classmethod
    def of(cls, folder: str | Path, place: Place, columns: Columns, dealing: Dealing) -> Kept:
        """Open a folder, made where there is none.

        Raises
        ------
        SavedAuditError
            It cannot be made.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SavedAuditError(f"tallies cannot be kept in {folder}: {error.strerror}.") from error
        where = place.name if place.system is not None else str(Path(place.name).resolve())
        counted = (columns.principles, columns.annotators, columns.cluster, columns.by, columns.kinds)
        return cls(folder, json.dumps([where, counted, astuple(dealing), discretion.__version__]))

    def path(self, file: Partition) -> Path:
        """Return where the tallies of a partition are, or would be."""
        key = json.dumps([self.way, file.name, file.size, file.changed])
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.tally"

    def read(self, file: Partition) -> Tallies | None:
        """Return the tallies of a partition; None where there are none, they are damaged, or its age is not known."""
        try:
            return unpack(self.path(file).read_bytes()) if file.changed else None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def write(self, file: Partition, tallies: Tallies) -> None:
        """Keep the tallies of a partition.

        Raises
        ------
        SavedAuditError
            They cannot be written.
        """
        write_whole(self.path(file), lambda path: path.write_bytes(pack(tallies)), SavedAuditError)
