"""Which comparisons an oracle was asked about, where it was not asked about all: what lies beside its file.

A sample that was chosen for a question is none for another: whoever reads the file has to know how it was drawn.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from discretion.errors import DataError, ReadError

SUFFIX = ".sample.json"
SELECTED = "kept: judged on a selected sample"
"""Begins the exclusion of judgements that were drawn for a question: an audit turns it into a warning."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The comparisons drawn, in order.

    Parameters
    ----------
    order : str
        How: one of `stopping.ORDERS`.
    questions : tuple of str
        Until they were answered.
    seed : int
    comparisons : int
        Of the study, N.
    drawn : tuple of str
        Ids.
    candidates : tuple of int
        From how many each was drawn: those left of all, or of those that bear on a question still open.
    probability : tuple of float or None
        Of each at its draw; None where all candidates were alike.
    """

    order: str
    questions: tuple[str, ...]
    seed: int
    comparisons: int
    drawn: tuple[str, ...]
    candidates: tuple[int, ...]
    probability: tuple[float, ...] | None = None

    @property
    def random(self) -> int:
        """How many of them, from the first on, are a random sample of all comparisons: all left were candidates."""
        if self.probability is not None:
            return 0
        selected = (k for k, n in enumerate(self.candidates) if n != self.comparisons - k)
        return next(selected, len(self.drawn))

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self), ensure_ascii=False) + "\n", "utf-8")


def beside(path: str | Path) -> Path:
    """Return where an oracle's sample lies: oracle.csv has oracle.sample.json."""
    file = Path(path)
    return file.with_name(file.name.removesuffix(".gz").rpartition(".")[0] + SUFFIX)


def sample_of(path: str | Path) -> Sample | None:
    """Return the sample that lies beside an oracle's file, None where there is none.

    Raises
    ------
    ReadError
        It cannot be read. To go on without it would be to take a selected sample for a random one.
    """
    if str(path).startswith("hf:"):
        return None
    place = beside(path)
    try:
        found = json.loads(place.read_text("utf-8"))
        chances = found["probability"]
        sample = Sample(
            str(found["order"]),
            tuple(map(str, found["questions"])),
            int(found["seed"]),
            int(found["comparisons"]),
            tuple(map(str, found["drawn"])),
            tuple(map(int, found["candidates"])),
            None if chances is None else tuple(map(float, chances)),
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ReadError(f"cannot be read: {error.strerror or error}.", path=place) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ReadError(
            "does not say how the oracle's comparisons were drawn.",
            expected="what `discretion judge --until` writes",
            remedy="Run it again.",
            path=place,
        ) from error
    if len(sample.candidates) != len(sample.drawn):
        raise DataError(
            f"has {len(sample.drawn)} draws and {len(sample.candidates)} numbers of candidates.",
            expected="as many of both", path=place,
        )  # fmt: skip
    return sample
