"""A simulated world that stands in for a pilot: what clashes, and how often, is assumed and not found.

It has the shares of states that are assumed and two annotators whose priorities have nothing to do with each other; any
lesser discrepancy can be planted between them.
"""

from __future__ import annotations

import numpy as np

from discretion.assumptions import Assumptions
from discretion.audit import Audit, audit
from discretion.errors import DataError
from discretion.simulate import Voter, World

SIZE = 4000
"""Comparisons of the stand-in: many, so that its own noise is little."""

_LEAN = 0.8  # how often principles vote alike, where it cannot be told from the shares


def simulated_pilot(assumed: Assumptions, seed: int) -> Audit:
    """Return the audit of a world with the principles, the states and the priorities that are assumed.

    Raises
    ------
    DataError
        No world has these shares of consensus and of conflict.
    """
    active, together, open_ = _votes(assumed.principles, assumed.consensus, assumed.conflict)
    rng = np.random.default_rng(seed)
    first, second = rng.normal(0.0, assumed.spread, (2, assumed.principles))
    voters = (Voter("reference", first.tolist(), assumed.arbitrariness), Voter("simulated", second.tolist(), 0.0))
    names = [f"principle {k}" for k in range(assumed.principles)]
    topics, shares = ("open", "silent"), (open_, 1 - open_)
    by_topic = np.outer((active, 0.0), np.ones(assumed.principles))
    table = World(names, by_topic, together, topics, shares, annotators=voters).draw(SIZE, seed).true_table
    return audit(
        table, replicates=0, splits=0, swaps=0, confidences=(), threads=1, reference="reference", name="simulated",
        seed=seed,
    )  # fmt: skip


def _votes(principles: int, consensus: float, conflict: float) -> tuple[float, float, float]:
    """Return how often a principle votes, how often for the response that the others lean to, and where any does.

    With q and t the first two, all are silent with (1 - q)^P, and none votes against the lean with (1 - q (1 - t))^P.
    Where so few votes would clash too seldom even if they had nothing to do with each other, more of them fall on fewer
    comparisons, and the rest are silent.
    """
    import scipy.optimize  # loads slowly

    voting = consensus + conflict
    if voting >= 1:
        raise DataError(
            f"consensus {consensus:g} and conflict {conflict:g} leave no comparison without a vote.",
            expected="shares that together stay below 1",
        )

    def agree(active: float, together: float) -> float:
        silent = (1 - active) ** principles
        return (1 - active * (1 - together)) ** principles + (1 - active * together) ** principles - 2 * silent

    active = float(1 - (1 - voting) ** (1 / principles))
    if agree(active, 0.5) < consensus:
        return active, float(scipy.optimize.brentq(lambda t: agree(active, t) - consensus, 0.5, 1.0)), 1.0

    def clashing(q: float) -> float:
        return 1 - agree(q, _LEAN) / (1 - (1 - q) ** principles) - conflict / voting

    if clashing(1.0) <= 0:
        raise DataError(
            f"of {principles} principles that vote, a share of {conflict / voting:.2f} cannot clash.",
            expected="less conflict, or more consensus",
        )
    active = float(scipy.optimize.brentq(clashing, active, 1.0))
    return active, _LEAN, voting / (1 - (1 - active) ** principles)
