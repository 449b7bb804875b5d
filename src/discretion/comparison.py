"""Comparisons: a prompt and two responses, one at a time or a table of them.

Held as one polars frame, since a study has millions; `Comparison` is the view of a single row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from discretion.errors import ColumnError, EmptyError, IdError, shown

TEXT_COLUMNS = ("prompt", "first", "second")


@dataclass(frozen=True, slots=True)
class Comparison:
    """A prompt and two responses to it.

    Parameters
    ----------
    id : str
        Its id in the study.
    prompt : str or None
        All that came before the responses; None where the data do not say.
    first, second : str
        The responses. +1 is a preference for `first` (`chosen`, `response_0`, `response_a`).
    attributes : mapping
        Whatever else is known of it (topic, source, model names, …).
    """

    id: str
    prompt: str | None
    first: str
    second: str
    attributes: Mapping[str, object] = field(default_factory=dict)

    @property
    def content_id(self) -> str:
        """A hash of the three texts: equal texts, equal id, whatever the file calls them."""
        return content_id(self.prompt, self.first, self.second)

    def swap(self) -> Comparison:
        """Return the same comparison with the responses exchanged."""
        return Comparison(self.id, self.prompt, self.second, self.first, self.attributes)


def content_id(prompt: str | None, first: str, second: str) -> str:
    """Hash a prompt and two responses to 16 hexadecimal digits; None and "" differ."""
    digest = hashlib.sha256()
    for text in (prompt, first, second):
        data = b"" if text is None else text.encode("utf-8", "surrogatepass")
        digest.update(b"\xff" if text is None else b"\x00")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Comparisons:
    """Many comparisons: a frame with the columns `id`, `prompt`, `first`, `second` and any attributes.

    Parameters
    ----------
    frame : polars.DataFrame
        `id` is text and unique, `prompt` may be null, `first` and `second` are not.
    origin : str
        The file or dataset that they came from, for messages and reports.

    Raises
    ------
    ColumnError, IdError, EmptyError
    """

    frame: pl.DataFrame
    origin: str = ""

    def __post_init__(self) -> None:
        missing = [name for name in ("id", *TEXT_COLUMNS) if name not in self.frame.columns]
        if missing:
            raise ColumnError(
                f"no column {', '.join(missing)} among {', '.join(self.frame.columns)}.", path=self.origin or None
            )
        if self.frame.height == 0:
            raise EmptyError("there are no comparisons in it.", path=self.origin or None)
        for name in ("id", "first", "second"):
            if self.frame[name].dtype != pl.String:
                raise ColumnError(
                    f"is {self.frame[name].dtype}.", expected="text.", path=self.origin or None, column=name
                )
            if self.frame[name].null_count():
                row = self.frame[name].is_null().arg_max()
                raise ColumnError("is empty.", path=self.origin or None, row=(row or 0) + 1, column=name)
        require_unique(self.frame["id"], path=self.origin or None)

    def __len__(self) -> int:
        return self.frame.height

    def __iter__(self) -> Iterator[Comparison]:
        for row in self.frame.iter_rows(named=True):
            texts = {name: row.pop(name) for name in ("id", *TEXT_COLUMNS)}
            yield Comparison(**texts, attributes=row)

    def __getitem__(self, key: str) -> Comparison:
        """Return the comparison with this id."""
        found = self.frame.filter(pl.col("id") == key)
        if found.height == 0:
            raise IdError(f"there is no comparison with the id {shown(key)}.", path=self.origin or None)
        return next(iter(Comparisons(found, self.origin)))

    def select(self, ids: Sequence[str]) -> Comparisons:
        """Return the comparisons with these ids, in this order."""
        wanted = pl.DataFrame({"id": pl.Series(list(ids), dtype=pl.String)})
        return Comparisons(wanted.join(self.frame, on="id", how="left", maintain_order="left"), self.origin)

    @property
    def attributes(self) -> pl.DataFrame:
        """The columns beside the texts, with the lengths of the responses in characters."""
        names = [name for name in self.frame.columns if name not in ("id", *TEXT_COLUMNS)]
        lengths = [
            pl.col("first").str.len_chars().cast(pl.Int64).alias("length_first"),
            pl.col("second").str.len_chars().cast(pl.Int64).alias("length_second"),
        ]
        present = [e for e in lengths if e.meta.output_name() not in names]
        return self.frame.select(*names, *present)

    def clusters_by_prompt(self) -> pl.Series:
        """Return a cluster label for each comparison: the hash of its prompt."""
        return self.frame["prompt"].fill_null("").hash().alias("prompt")


def require_unique(ids: pl.Series, *, path: str | None = None) -> None:
    """Raise an `IdError` that names the first id that stands twice, with its rows."""
    if ids.n_unique() == ids.len():
        return
    frame = ids.alias("id").to_frame().with_row_index("row", offset=1)
    again = frame.filter(pl.col("id").is_duplicated()).group_by("id", maintain_order=True).agg("row")
    first_id, rows = again.row(0)
    raise IdError(
        f"the id {shown(first_id)} stands in rows {', '.join(map(str, rows[:4]))}"
        f" ({again.height:,} ids stand more than once).",
        expected="one row a comparison.",
        remedy="Remove the copies, or give each its own id.",
        path=path,
        row=rows[1],
        column="id",
    )
