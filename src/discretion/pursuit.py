"""Judging until questions are answered: draw some comparisons, have them judged, look, and go on while any is open.

Who judges is a function, so that a replay of a finished study and a live oracle are the same loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from discretion.metrics.resampling import LEVEL
from discretion.stopping import Answer, Draws, Question, Rows, check_order, draw, follow
from discretion.table import PreferenceTable


@dataclass(frozen=True)
class Pursued:
    """Questions and how far judging them went.

    Parameters
    ----------
    draws : Draws
        The comparisons judged, in order.
    answers : tuple of Answer
    level : float
        Of all intervals of all questions together.
    order : str
    exhausted : bool
        Nothing was left to judge.
    """

    draws: Draws
    answers: tuple[Answer, ...]
    level: float
    order: str
    exhausted: bool

    @property
    def answered(self) -> bool:
        """Whether every question is, by its interval."""
        return all(a.decided > 0 for a in self.answers)


Ask = Callable[[PreferenceTable, Rows], PreferenceTable | None]
"""Judges comparisons and returns the table with their votes; None: no more (the budget is spent, somebody stopped)."""


def pursue(
    questions: Sequence[Question],
    table: PreferenceTable,
    ask: Ask,
    rng: np.random.Generator,
    *,
    order: str = "relevant",
    reference: str = "",
    level: float = LEVEL,
    batch: Callable[[int], int] = lambda judged: max(20, judged // 10),
) -> Pursued:
    """Judge until the questions are answered, or nothing is left that bears on them.

    A question that is answered takes no more part in what is drawn. The level is shared equally among the questions
    (Bonferroni): with 95 % all answers are right together.

    Parameters
    ----------
    questions : sequence of Question
    table : PreferenceTable
        Its annotators' votes; the principles' are those that `ask` fills in.
    ask : callable
    rng : generator
    order, reference, level :
        As in `draw` and `follow`.
    batch : callable
        From how many were judged to how many are next.
    """
    each = 1 - (1 - level) / max(len(questions), 1)
    check_order(questions, order)
    drawn = Draws.none(order)
    answers: dict[Question, Answer] = {}
    exhausted = False
    while any(answers.get(q) is None or answers[q].decided < 0 for q in questions):
        open_ = [q for q in questions if answers.get(q) is None or answers[q].decided < 0]
        more = draw(open_, table, order, rng, judged=drawn, count=batch(len(drawn.rows)), reference=reference)
        new = more.rows[len(drawn.rows) :]
        if not len(new):
            exhausted = True
            break
        told = ask(table, new)
        if told is None:
            break
        table, drawn = told, more
        for q in open_:
            answers[q] = follow(
                q, table, drawn.rows, probability=drawn.probability, reference=reference, level=each
            )  # fmt: skip
    nothing = np.empty(0)
    found = tuple(answers.get(q) or Answer(q, nothing, nothing, -1, "", 0) for q in questions)
    return Pursued(drawn, found, level, order, exhausted)
