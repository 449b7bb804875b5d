"""What a study is expected to be like, and what it is to show: the two halves of a plan, checked as they are stated."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import polars as pl

from discretion.audit import Audit
from discretion.errors import ColumnError, DataError, EmptyError, shown
from discretion.metrics import power as powers
from discretion.metrics.counts import RULES
from discretion.metrics.shrinkage import shrink
from discretion.rater_labels import ARBITRARINESS, RaterLabels

CORRECTIONS = ("none", "bonferroni", "bh")


@dataclass(frozen=True)
class Assumptions:
    """What a study is expected to be like.

    Parameters
    ----------
    arbitrariness : float
        How often an annotator goes against a consensus.
    consensus : float
        Share of the comparisons in which the principles are in consensus and the annotator takes a side.
    design_effect : float
        By how much clusters of comparisons widen a variance; 1 without.
    correlation : float
        Of two annotators' going against consensus, over comparisons; 0 where it is not known: the more they go
        together, the fewer comparisons a difference needs.
    principles : int
    raters : int
    rater_rate, rater_consensus : float, optional
        As `arbitrariness` and `consensus`, of single raters; by default the same.
    rater_sd : float
        Standard deviation of the raters' true rates.
    comparisons, labels : int
        The present size, 0 where there is no study yet: comparisons, and labels of each rater.
    conflict : float
        Share of the comparisons in conflict; with `consensus` it makes the world that stands in for a pilot where
        discrepancies are planned without one.
    spread : float
        Standard deviation of the priorities there, in logits.
    """

    arbitrariness: float = 0.1
    consensus: float = 0.4
    design_effect: float = 1.0
    correlation: float = 0.0
    principles: int = 21
    raters: int = 200
    rater_rate: float | None = None
    rater_consensus: float | None = None
    rater_sd: float = 0.03
    comparisons: int = 0
    labels: int = 0
    conflict: float = 0.16
    spread: float = 1.0

    def __post_init__(self) -> None:
        for name in ("arbitrariness", "rater_rate"):
            _between(name, getattr(self, name), 0, 1, "a rate above 0 and below 1; without any case nothing is found")
        for name in ("consensus", "rater_consensus"):
            _between(name, getattr(self, name), 0, 1 + 1e-12, "a share above 0, at most 1")
        _between("conflict", self.conflict, 0, 1, "a share above 0 and below 1")
        _between("spread", self.spread, 0, 10 + 1e-12, "a standard deviation in logits above 0, at most 10")
        _between("correlation", self.correlation, -1, 1, "a correlation between -1 and 1")
        if not 1 <= self.design_effect < 1e4:
            raise DataError(f"design_effect = {self.design_effect:g}.", expected="1 or more")
        mean = self.rater_rate or self.arbitrariness
        if not 0 <= self.rater_sd**2 < mean * (1 - mean):
            raise DataError(
                f"rater_sd = {self.rater_sd:g}.", expected=f"at least 0, and below what rates of mean {mean:g} can have"
            )
        if min(self.principles, self.raters) < 2 or min(self.comparisons, self.labels) < 0:
            raise DataError(
                f"{self.principles} principles, {self.raters} raters.", expected="two or more of each, no size below 0"
            )


@dataclass(frozen=True)
class Goals:
    """What the study is to show; None leaves a question out.

    Parameters
    ----------
    within : float, optional
        Half-width of the 95 % interval of a rate.
    difference : float, optional
        In arbitrariness, between two annotators or two groups.
    discrepancy : float, optional
        To be seen as more than noise.
    discrepancy_within : float, optional
        1.96 standard errors of a discrepancy.
    deviant : float, optional
        The rate of a rater that is to be flagged.
    deviant_share : float
        Of the raters, how many are so.
    power, level : float
        Of the two-sided tests; of flags on raters the false-discovery rate.
    questions, correction, real : int, str, float
        How many differences are tested together, how that is corrected for (`CORRECTIONS`), and in what share of them
        there is something to see.
    split : float
        Share of the comparisons in the first of two groups.
    orders : int
        In which the oracle sees the two responses.
    overlap : int
        Raters of one comparison.
    price : float, optional
        Of 1,000 judgements.
    """

    within: float | None = 0.05
    difference: float | None = 0.05
    discrepancy: float | None = None
    discrepancy_within: float | None = None
    deviant: float | None = None
    deviant_share: float = 0.05
    power: float = 0.8
    level: float = 0.05
    questions: int = 1
    correction: str = "bh"
    real: float = 0.5
    split: float = 0.5
    orders: int = 2
    overlap: int = 1
    price: float | None = None

    def __post_init__(self) -> None:
        for name in ("within", "discrepancy_within"):
            _between(name, getattr(self, name), 0, 0.5, "a half-width above 0 and below 0.5")
        for name in ("difference", "discrepancy", "deviant", "deviant_share", "level", "split"):
            _between(name, getattr(self, name), 0, 1, "above 0 and below 1")
        _between("power", self.power, self.level, 1, f"above the level, {self.level:g}, and below 1: nothing is sure")
        _between("real", self.real, 0, 1 + 1e-12, "above 0, at most 1")
        if self.correction not in CORRECTIONS:
            raise DataError(f"correction = {shown(self.correction)}.", expected=f"one of {', '.join(CORRECTIONS)}")
        if min(self.questions, self.overlap) < 1 or self.orders not in (1, 2):
            raise DataError(
                f"{self.questions} questions, {self.orders} orders, overlap {self.overlap}.",
                expected="a question or more, 1 or 2 orders, a rater or more",
            )
        if self.price is not None and not 0 <= self.price < np.inf:
            raise DataError(f"price = {self.price:g}.", expected="the price of 1,000 judgements, 0 or more")

    @property
    def each_level(self) -> float:
        """The level of each test."""
        return powers.level_of_each(self.level, self.questions, self.correction, power=self.power, real=self.real)


def from_pilot(audit: Audit, **assumed: float | None) -> Assumptions:
    """Return what an audit says of its reference annotator and its raters.

    Parameters
    ----------
    assumed : float
        Fields of `Assumptions` that take the place of the pilot's.

    Raises
    ------
    ColumnError
        There is no such field.
    EmptyError
        The reference decides no comparison in consensus.
    DataError
        What is found cannot be planned with: a rate of 0 or 1.
    """
    unknown = set(assumed) - {f.name for f in fields(Assumptions)}
    if unknown:
        raise ColumnError(f"there is no assumption {shown(min(unknown))}.", expected="a field of Assumptions")
    row = audit.arbitrariness.filter(
        (pl.col("annotator") == audit.settings.reference) & (pl.col("rule") == RULES[0])
    ).to_dicts()
    if not row or not row[0]["n"]:
        raise EmptyError("the pilot has no comparison in consensus that its reference decides.",
                         remedy="Plan from assumptions instead, without the audit.")  # fmt: skip
    rate, se, n = row[0]["estimate"], row[0]["se"], row[0]["n"]
    spread = rate * (1 - rate) / n
    found: dict[str, float | None] = {
        "arbitrariness": rate, "consensus": n / len(audit.table), "principles": len(audit.table.constitution),
        "design_effect": max(1.0, se**2 / spread) if audit.settings.cluster and spread > 0 else 1.0,
        "comparisons": len(audit.table),
    }  # fmt: skip
    if any(a.kind == "rater" for a in audit.table.annotators):
        labels = RaterLabels.of(audit.table)
        count, of = labels.counts(ARBITRARINESS)
        people = shrink(count, of).population
        if 0 < people.mean < 1:
            found |= {
                "raters": len(labels.raters), "rater_rate": people.mean, "rater_sd": people.sd,
                "rater_consensus": float(of.sum()) / len(labels), "labels": round(len(labels) / len(labels.raters)),
            }  # fmt: skip
    return replace(Assumptions(), **(found | assumed))  # type: ignore[arg-type]


def _between(name: str, value: float | None, low: float, high: float, expected: str) -> None:
    if value is not None and not low < value < high:
        raise DataError(f"{name} = {value:g}.", expected=expected)
