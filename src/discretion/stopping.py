"""Stopping: questions that a study is to answer, and whether the judgements so far have answered them.

Intervals are valid at every number of judgements together, so one may look after each and stop at will. Which
comparison to judge next may be chosen, too: those that cannot bear on a question are left out, and those likely to tell
most are drawn more often and weighted back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from discretion.errors import QueryError, shown
from discretion.metrics.agreement import CONFLICT, CONSENSUS, INDIFFERENCE, UNJUDGED, states
from discretion.metrics.resampling import LEVEL
from discretion.metrics.sequences import share_sequence, weighted_mean_sequence
from discretion.table import PreferenceTable
from discretion.vote import MISSING

Int8 = NDArray[np.int8]
Float = NDArray[np.float64]
Rows = NDArray[np.intp]

ORDERS = ("random", "relevant", "informative")
"""How comparisons are drawn: any of them; those that can bear on the question; of these the telling ones more often."""

_STATES = {"consensus": CONSENSUS, "conflict": CONFLICT, "indifference": INDIFFERENCE}
_SYNTAX = re.compile(
    r"^\s*(share|arbitrariness|supremacy)\s+(.+?)(?:\s+vs\s+(.+?))?(?:\s*(>|<|\+-|±)\s*(\d*\.?\d+))?\s*$", re.DOTALL
)
_FORMS = (
    "share conflict > 0.2, share conflict +- 0.03, share consensus vs conflict, arbitrariness NAME > 0.1, "
    "arbitrariness NAME +- 0.03, arbitrariness NAME vs NAME, supremacy PRINCIPLE vs PRINCIPLE"
)
_EVEN = 0.3  # share of the draws that go to every comparison alike, so that no weight grows beyond 1 / 0.3
_PRIOR = 5.0  # comparisons that a pattern of votes is taken to have had before any was seen


@dataclass(frozen=True, slots=True)
class Question:
    """What a study is to answer.

    Parameters
    ----------
    text : str
    kind : str
        "share" of a state, "arbitrariness" of an annotator, or "supremacy" of a principle over another.
    one, other : str
        States, annotators or principles; `other` is "" where nothing is compared.
    bound : float
        To be told from: 1/2 where two are compared, NaN where the question is of a width.
    within : float
        The interval is to reach no farther from its middle; NaN: it is to leave out the bound.
    """

    text: str
    kind: str
    one: str
    other: str = ""
    bound: float = float("nan")
    within: float = float("nan")

    @classmethod
    def parse(cls, text: str, table: PreferenceTable) -> Question:
        """Read a question.

        Raises
        ------
        QueryError
            It is none, or names what is not there.
        """
        found = _SYNTAX.match(text)
        if found is None:
            raise QueryError(f"{shown(text)} is no question. Expected one such as {_FORMS}.")
        kind, one, other, sign, number = found.groups()
        known = {"share": tuple(_STATES), "arbitrariness": table.annotator_names,
                 "supremacy": table.constitution.names}[kind]  # fmt: skip
        for name in (one, other):
            if name is not None and name not in known:
                raise QueryError(f"{shown(text)}: {shown(name)} is none of {', '.join(map(shown, known[:12]))}.")
        if other == one or (kind == "supremacy" and other is None):
            raise QueryError(f"{shown(text)} has to name two. Expected one such as {_FORMS}.")
        if (other is None) == (sign is None):
            raise QueryError(f"{shown(text)}: expected either vs, or one of > < +- and a number.")
        value = float(number) if number is not None else np.nan
        if number is not None and not 0 < value < 1:
            raise QueryError(f"{shown(text)}: {number} is not between 0 and 1.")
        wide = sign in ("+-", "±")
        bound = np.nan if wide else 0.5 if other else value
        return cls(text.strip(), kind, one, other or "", bound, value if wide else np.nan)

    @property
    def names(self) -> tuple[str, ...]:
        """The annotators that it is about."""
        return tuple(n for n in (self.one, self.other) if n) if self.kind == "arbitrariness" else ()


@dataclass(frozen=True)
class Answer:
    """What the judgements so far say of a question, which is one on the file: on all comparisons of the study.

    Parameters
    ----------
    question : Question
    low, high : float64 (T,)
        After each comparison judged, in the order in which they were: of the share; where two are compared, of the
        first among the comparisons that tell them apart. With weights, of the excess.
    decided : int
        After how many comparisons the interval answered it; -1: not yet.
    verdict : str
        What the interval says: "above", "below", "settled" (it is narrow enough) or "".
    used : int
        Comparisons that bore on it.
    quantity : str
        What the interval is of: "share", or "excess": the mean, over all comparisons that can bear on it, of what lies
        above the bound (1 - bound where one goes against consensus, -bound where it goes with it, 0 without one).
    whole : bool
        Every comparison that can bear on it is judged, none of them failed: the file is known, and nothing is inferred.
    share : float
        Of those judged; NaN without any.
    failed : int
        Comparisons that were drawn and have no full judgement.
    """

    question: Question
    low: Float
    high: Float
    decided: int
    verdict: str
    used: int
    quantity: str = "share"
    whole: bool = False
    share: float = float("nan")
    failed: int = 0

    @property
    def said(self) -> str:
        """The answer in words: what the interval says, what the file says where all of it is known, or "open"."""
        if self.verdict:
            return self.verdict
        return f"all judged: {in_file(self.question, self.share)} in this sample" if self.whole else "open"


def in_file(question: Question, share: float) -> str:
    """Return what a share says by itself: "above", "below", "even", or the share, where a question is of a width."""
    if np.isnan(question.bound):
        return f"{100 * share:.1f} %"
    return "above" if share > question.bound else "below" if share < question.bound else "even"


def follow(
    question: Question,
    table: PreferenceTable,
    rows: Rows,
    *,
    probability: Float | None = None,
    reference: str = "",
    level: float = LEVEL,
) -> Answer:
    """Say after each comparison that was judged what is known of a question.

    When all is judged, the share in the file is known to the last digit. That is no answer by evidence: the verdict
    stays empty, `Answer.whole` is set, and what a further file like this would say is for the audit's intervals.

    Parameters
    ----------
    question : Question
    table : PreferenceTable
        Of all comparisons; the principles' votes of those in `rows` are known.
    rows : int (T,)
        The comparisons judged, in order: drawn at random, or by `draw`.
    probability : float64 (T,), optional
        Of each at its draw, where they were drawn with weights.
    reference : str
        Whose choice decides a supremacy.
    level : float
        Of all intervals of the question together.
    """
    value, counts = _outcomes(question, table, rows, reference)
    seen, total = np.cumsum(counts), np.cumsum(np.where(counts, value, 0.0))
    bears = relevant(question, table, reference)
    known = _known(question, table, rows)
    left = bears.copy()
    left[rows] = False
    ended = len(rows) > 0 and not left.any()
    whole = bool(ended and known[bears[rows]].all() and seen[-1] > 0)
    finite = True
    if probability is not None:
        low, high = _weighted(question, value, counts, probability, int(bears.sum()), level)
    else:
        finite = question.kind == "share" and not question.other and bool(counts.all())
        of = len(table) if finite else None
        # Nothing moves but where one counts: of a rare question a hundredth of the work.
        low, high = share_sequence(total[counts], seen[counts].astype(np.float64), level=level, of=of)
        low, high = np.append(low, 0.0)[seen - 1], np.append(high, 1.0)[seen - 1]
    bound = question.bound if probability is None else 0.0
    out = (low > bound) | (high < bound) if np.isnan(question.within) else high - low <= 2 * question.within
    if ended and finite and bears.any():  # what makes the interval a point is the end of the file
        out[np.flatnonzero(bears[rows])[-1] :] = False
    decided = int(np.argmax(out)) + 1 if out.any() else -1
    verdict = ""
    if decided > 0:
        verdict = "settled" if np.isnan(bound) else "above" if low[decided - 1] > bound else "below"
    return Answer(
        question, low, high, decided, verdict, int(counts.sum()),
        quantity="share" if probability is None else "excess", whole=whole,
        share=float(total[-1] / seen[-1]) if len(rows) and seen[-1] else float("nan"),
        failed=int((~known & bears[rows]).sum()),
    )  # fmt: skip


def share_in_file(question: Question, table: PreferenceTable, reference: str = "") -> float:
    """Return the share that a question is about among all comparisons that are judged; NaN without any."""
    value, counts = _outcomes(question, table, np.arange(len(table), dtype=np.intp), reference)
    return float(value[counts].mean()) if counts.any() else float("nan")


def _known(question: Question, table: PreferenceTable, rows: Rows) -> NDArray[np.bool_]:
    """Whether each row has every judgement that the question needs, bool (T,): a failed one could change it."""
    X = table.X[rows]
    if question.kind == "supremacy":
        X = X[:, [table.constitution.names.index(name) for name in (question.one, question.other)]]
    return np.asarray((X != MISSING).all(axis=1))


def _outcomes(
    question: Question, table: PreferenceTable, rows: Rows, reference: str
) -> tuple[Float, NDArray[np.bool_]]:
    """Return what each comparison says, float64 (T,), and whether it says anything, bool (T,)."""
    X = table.X[rows]
    state, way, _ = states(X)
    if question.kind == "share":
        value = (state == _STATES[question.one]).astype(np.float64)
        return value, (value > 0) | (state == _STATES[question.other]) if question.other else state != UNJUDGED
    if question.kind == "supremacy":
        a, b = (table.constitution.names.index(name) for name in (question.one, question.other))
        y = table.annotator(reference).dense(len(table))[rows]
        clash = _decided(X[:, a]) & (X[:, a] == -X[:, b]) & _decided(y)
        return (y == X[:, a]).astype(np.float64), clash
    labels = [table.annotator(name).dense(len(table))[rows] for name in question.names]
    counts = state == CONSENSUS
    for y in labels:
        counts &= _decided(y)
    if question.other:
        counts &= labels[0] != labels[1]  # both with the consensus or both against it tells nothing of who is more so
    return (labels[0] == -way).astype(np.float64), counts


def _decided(votes: Int8) -> NDArray[np.bool_]:
    return np.asarray(np.abs(votes.astype(np.int16)) == 1)


# -- what to judge next ----------------------------------------------------------------------------------------------


def relevant(question: Question, table: PreferenceTable, reference: str = "") -> NDArray[np.bool_]:
    """Return which comparisons can bear on a question, whatever the principles say of them, bool (N,)."""
    n = len(table)
    names = [reference] if question.kind == "supremacy" else list(question.names)
    found = np.ones(n, np.bool_)
    labels = [table.annotator(name).dense(n) for name in names if name]
    for y in labels:
        found &= _decided(y)
    if question.kind == "arbitrariness" and question.other:
        found &= labels[0] != labels[1]  # where they decide alike, both or neither go against a consensus
    return found


@dataclass(frozen=True)
class Draws:
    """Comparisons in the order in which they are to be judged.

    Parameters
    ----------
    rows : int (T,)
    probability : float64 (T,) or None
        Of each at its draw, given those before it; None where all were alike.
    candidates : int (T,)
        From how many each was drawn.
    """

    rows: Rows
    probability: Float | None
    candidates: Rows

    @classmethod
    def none(cls, order: str) -> Draws:
        """Return what is drawn before anything is."""
        return cls(np.empty(0, np.intp), np.empty(0) if order == "informative" else None, np.empty(0, np.intp))


def draw(
    questions: Sequence[Question],
    table: PreferenceTable,
    order: str,
    rng: np.random.Generator,
    *,
    judged: Draws | None = None,
    count: int | None = None,
    reference: str = "",
) -> Draws:
    """Draw what to judge next.

    Parameters
    ----------
    questions : sequence of Question
        Those that are open: what bears on any of them is drawn, all of it alike, so that each question sees a random
        sample of what bears on it.
    table : PreferenceTable
        The principles' votes of the rows in `judged` are known.
    order : str
        One of `ORDERS`; "informative" for a single question that is not of a width.
    rng : generator
    judged : Draws, optional
        What was drawn before: the result begins with it.
    count : int, optional
        How many more; by default all that are left.
    reference : str

    Returns
    -------
    Draws

    Raises
    ------
    QueryError
        The order is none, or does not fit the questions.
    """
    check_order(questions, order)
    before = judged or Draws.none(order)
    pool = np.full(len(table), order == "random")
    for question in questions:
        pool |= relevant(question, table, reference)
    pool[before.rows] = False
    left = np.flatnonzero(pool)
    count = len(left) if count is None else min(count, len(left))
    candidates = np.concatenate([before.candidates, len(left) - np.arange(count)])
    if before.probability is None:
        return Draws(np.concatenate([before.rows, rng.permutation(left)[:count]]), None, candidates)
    score = _telling(questions[0], table, before.rows, reference)[left]
    rows, chances = [], []
    for _ in range(count):
        q = (1 - _EVEN) * score / score.sum() + _EVEN / len(left)
        at = int(rng.choice(len(left), p=q))
        rows.append(left[at])
        chances.append(q[at])
        left, score = np.delete(left, at), np.delete(score, at)
    return Draws(
        np.concatenate([before.rows, np.array(rows, np.intp)]),
        np.concatenate([before.probability, np.array(chances)]),
        candidates,
    )


def check_order(questions: Sequence[Question], order: str) -> None:
    """Raise a `QueryError` where questions cannot be answered in an order."""
    if order not in ORDERS:
        raise QueryError(f"{shown(order)} is no order. Expected one of {', '.join(ORDERS)}.")
    if order == "informative" and (len(questions) != 1 or not np.isnan(questions[0].within)):
        raise QueryError(
            "an informative order is for one question alone, and for none of a width (+-): weights that suit one do "
            "not suit another. Ask one, or order by relevance."
        )


def _telling(question: Question, table: PreferenceTable, rows: Rows, reference: str) -> Float:
    """Return how much each comparison is expected to tell, float64 (N,): the root of the mean square by pattern.

    A pattern is how the other annotators decided, seen from the first that the question is about: a predictor that
    costs nothing. The best probability of a draw is in proportion to this root (Neyman's allocation).
    """
    pattern = _patterns(question, table, reference)
    value, counts = _outcomes(question, table, rows, reference)
    square = np.where(counts, (value - question.bound) ** 2, 0.0)
    k = int(pattern.max()) + 1
    seen = np.bincount(pattern[rows], minlength=k)
    total = np.bincount(pattern[rows], weights=square, minlength=k)
    prior = max(float(square.mean()), 1e-3) if len(rows) else 1.0
    return np.asarray(np.sqrt((total + _PRIOR * prior) / (seen + _PRIOR))[pattern])


def _patterns(question: Question, table: PreferenceTable, reference: str) -> NDArray[np.int64]:
    n = len(table)
    names = list(question.names) or ([reference] if reference else [])
    if not names:
        return np.zeros(n, np.int64)
    first = table.annotator(names[0]).dense(n).astype(np.int16)
    code = np.zeros(n, np.int64)
    for a in [a for a in table.annotators if a.kind in ("annotator", "group") and a.name != names[0]][:6]:
        y = a.dense(n).astype(np.int16)
        both = (np.abs(y) == 1) & (np.abs(first) == 1)
        code = code * 3 + np.where(both, np.where(y == first, 1, 2), 0)
    return np.unique(code, return_inverse=True)[1].astype(np.int64)


def _weighted(
    question: Question, value: Float, counts: NDArray[np.bool_], probability: Float, of: int, level: float
) -> tuple[Float, Float]:
    """Return the interval of the excess after each draw."""
    x = np.where(counts, value - question.bound, 0.0)
    return weighted_mean_sequence(
        x, probability, of=of, floor=_EVEN / of, low=-question.bound, high=1 - question.bound, level=level,
        replaced=False, start=0.0,
    )  # fmt: skip


def read_questions(texts: Sequence[str], table: PreferenceTable) -> list[Question]:
    """Read several questions; a `QueryError` names the one that is wrong."""
    return [Question.parse(text, table) for text in texts]
