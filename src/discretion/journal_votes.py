"""A judge's judgements placed by order, comparison and principle: as votes, and in the published form.

Judgements are found by the hash of what was asked where the texts are known, so that a case may be renamed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.errors import EmptyError, IdError, shown
from discretion.journal_rows import text_of
from discretion.judges.asking import GENERIC, OK, Question, key_of
from discretion.vote import Votes

COLUMNS: Final = ("key", "case", "question", "order", "sample", "first", "second", "neither", "status", "cost")
"""What `place` reads of a judgement."""

_MOST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Placed:
    """Judgements of N comparisons and P questions.

    Parameters
    ----------
    ids : N comparisons
    questions : P questions
    probabilities : float64 (2, N, P, 3)
        In terms of the responses, the mean of the samples with an answer; NaN where there is none.
    asked : bool (2, N, P)
    cost : float64 (2, N, P)
        US dollars, of all that was asked; NaN where it is not known.
    """

    ids: Sequence[str]
    questions: Sequence[Question]
    probabilities: NDArray[np.float64]
    asked: NDArray[np.bool_]
    cost: NDArray[np.float64]

    @property
    def generic(self) -> bool:
        """Whether it is the generic question alone, which has no principle."""
        return len(self.questions) == 1 and self.questions[0].name == GENERIC

    def votes(self, minimum_mass: float) -> Votes:
        """Return votes, (2, N, 3) for the generic question alone; asked and failed is no mass, as in a file."""
        failed = self.asked & np.isnan(self.probabilities).any(axis=-1)
        # With a minimum mass of 0, zeros would be a tie.
        empty = 0.0 if minimum_mass > 0 else np.nan
        probabilities = np.where(failed[..., None], empty, self.probabilities)
        return Votes(probabilities[:, :, 0] if self.generic else probabilities, minimum_mass)

    def published(self) -> pl.DataFrame:
        """Return a row a judgement in the form in which the paper's were published.

        Returns
        -------
        polars.DataFrame
            `row_id`, `principle_id` (from 0; not for the generic question), `order`, `prob_A`, `prob_B` and
            `prob_NA` as presented (empty without an answer), `cost`.

        Raises
        ------
        EmptyError
            None was asked.
        IdError
            An id cannot stand in a CSV file.
        """
        cases, principles, orders = np.nonzero(self.asked.transpose(1, 2, 0))
        if not cases.size:
            raise EmptyError(
                "the journal has no judgements of this judge about these comparisons and principles.",
                remedy="Ask them first, or check the ids.",
            )
        for name in self.ids:
            if not name.strip() or "\0" in name or text_of(name) is not name:
                raise IdError(
                    f"the id {shown(name)} cannot stand in a CSV file.",
                    expected="a text of Unicode characters, not blank, without NUL.",
                    remedy="Give the comparison another id, or export to Parquet.",
                )
        first, second, neither = self.probabilities[orders, cases, principles].T
        numbers = {
            "prob_A": np.where(orders == 0, first, second),
            "prob_B": np.where(orders == 0, second, first),
            "prob_NA": neither,
            "cost": self.cost[orders, cases, principles],
        }
        columns = [pl.Series("row_id", list(self.ids), pl.String).gather(cases)]
        if not self.generic:
            names = [question.name for question in self.questions]
            if not any(name.isdigit() for name in names):  # a reader takes a name before a number
                names = [str(k) for k in range(len(names))]
            columns.append(pl.Series("principle_id", names, pl.String).gather(principles))
        columns.append(pl.Series("order", orders, pl.Int8))
        columns += [pl.Series(name, values).fill_nan(None) for name, values in numbers.items()]
        return pl.DataFrame(columns)


def place(
    judged: pl.DataFrame,
    judge: str,
    ids: Sequence[str],
    questions: Sequence[Question],
    content: Mapping[str, str] | None,
) -> Placed:
    """Place a judge's judgements.

    Parameters
    ----------
    judged : a row a judgement, with `number` and `COLUMNS`
        Of one judge, all that it was asked.
    judge : str
        The digest of its identity.
    content : mapping, optional
        See `Journal.votes`.

    Raises
    ------
    IdError
        `content` lacks a comparison.
    """
    shape = (2, len(ids), len(questions))
    size = math.prod(shape)
    judged = judged.filter(pl.col("order").is_in([0, 1]))
    if content is None:
        cases = pl.DataFrame({"case": pl.Series([text_of(i) for i in ids], dtype=pl.String)}).with_row_index("i")
        named = pl.DataFrame({"question": pl.Series([text_of(q.name) for q in questions], dtype=pl.String)})
        found = judged.join(cases, on="case").join(named.with_row_index("p"), on="question")
        row = pl.col("order") * len(ids) + pl.col("i").cast(pl.Int64)
        found = found.with_columns(cell=row * len(questions) + pl.col("p").cast(pl.Int64))
    else:
        found = judged.join(_keys(judged, judge, ids, questions, content), on="key")
    found = found.sort("cell", "sample", "number")
    priced = found.filter(pl.col("cost").is_not_null())
    cost, known = np.zeros(size), np.zeros(size, bool)
    np.add.at(cost, priced["cell"].to_numpy(), priced["cost"].to_numpy())
    known[priced["cell"].to_numpy()] = True

    # A text or a wording that was changed under the same name has another key: the last one asked is meant.
    sample = ("cell", "sample")
    found = found.filter(pl.col("key") == pl.col("key").last().over(sample))
    rank = pl.when(pl.col("status") == OK).then(pl.col("number")).otherwise(_MOST - pl.col("number"))
    found = found.filter(rank == rank.min().over(sample))
    asked = np.zeros(size, bool)
    asked[found["cell"].to_numpy()] = True
    answers = ("first", "second", "neither")
    found = found.filter(pl.col("status") == OK, *(pl.col(answer).is_not_null() for answer in answers))
    cells = found["cell"].to_numpy()
    total, samples = np.zeros((size, 3)), np.zeros(size)
    np.add.at(total, cells, found.select(answers).to_numpy())
    np.add.at(samples, cells, 1)
    total[samples == 0] = np.nan
    mean = total / np.maximum(samples, 1)[:, None]
    cost[~known] = np.nan
    return Placed(ids, questions, mean.reshape(*shape, 3), asked.reshape(shape), cost.reshape(shape))


def _keys(
    judged: pl.DataFrame, judge: str, ids: Sequence[str], questions: Sequence[Question], content: Mapping[str, str]
) -> pl.DataFrame:
    """Return the key of every judgement that may have been asked, with its cell."""
    lacking = [i for i in ids if i not in content]
    if lacking:
        raise IdError(
            f"the texts of the comparison {shown(lacking[0])} are not known ({len(lacking):,} such).",
            expected="a content id for each comparison.",
        )
    samples = judged["sample"].unique().sort().to_list()
    cells, keys = [], []
    for order in judged["order"].unique().sort().to_list():
        for i, name in enumerate(ids):
            for p, question in enumerate(questions):
                cell = (order * len(ids) + i) * len(questions) + p
                for sample in samples:
                    cells.append(cell)
                    keys.append(key_of(judge, question, content[name], order, sample))
    return pl.DataFrame({"key": pl.Series(keys, dtype=pl.Binary), "cell": pl.Series(cells, dtype=pl.Int64)})
