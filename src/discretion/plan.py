"""How large a study has to be: comparisons, labels of each rater, judgements of the oracle, and their price.

From a pilot's audit or from assumptions. Rates and their differences are exact; rankings and raters are simulated,
since what they lose to a fit has no formula.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import scipy.special
from numpy.typing import NDArray

from discretion.assumptions import Assumptions, Goals, from_pilot
from discretion.audit import Audit
from discretion.errors import DataError, EmptyError, shown
from discretion.metrics import power as powers
from discretion.metrics.agreement import states
from discretion.metrics.resampling import LEVEL
from discretion.plan_pilot import simulated_pilot
from discretion.plan_ranking import Resampled

Float = NDArray[np.float64]
Report = Callable[[str, float], None]
_Known = Mapping[str, float]

QUESTIONS = ("arbitrariness", "two annotators", "two groups", "discrepancy", "discrepancy within", "deviant rater")
"""What is asked, in this order."""

DRAWS = 20
"""Simulations of a size that is tried for raters: at most a few minutes of one core, and a size within a tenth."""

_SIZES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)  # of what is needed, for a range of sizes
_RESAMPLED = (0.5, 1.0, 2.0, 4.0)  # of the pilot, for errors and floors
_FURTHEST = 16  # times the pilot: beyond it a resample says nothing
_BLURRED = 0.25  # discrepancy of two resamples of the pilot with each other from which on it is too small to tell
_FEW = 30  # conflicts
_MOST_LABELS = 5000  # of a rater
_ROUGH = "rough, and may promise too much"  # measured: 81 to 98 % promised was 58 %
_Z = float(scipy.special.ndtri(0.5 + LEVEL / 2))


@dataclass(frozen=True)
class Plan:
    """How large a study has to be.

    Parameters
    ----------
    frame : polars.DataFrame
        `question` (of `QUESTIONS`), `who`, `goal`, `rate`, `share` (of the comparisons that count), `design_effect`,
        `correlation`, `level`, `power`, `unit` ("comparisons" or "labels a rater"), `needed` (NaN where no size is
        enough or the pilot cannot tell), `comparisons`, `judgements` (in one order), `judgements_all` (in all
        orders), `cost`, `present`, `power_now`, `half_width_now`, `note`.
    sizes : polars.DataFrame
        For a range of sizes: `question`, `who`, `size`, `power`, `half_width`, `floor` (the discrepancy of random
        halves of an annotator's own data).
    assumptions : Assumptions
    goals : Goals
    pilot : str
        Its name, "" without one.
    seed, draws : int
    """

    frame: pl.DataFrame
    sizes: pl.DataFrame
    assumptions: Assumptions
    goals: Goals
    pilot: str
    seed: int
    draws: int


def plan_study(
    source: Audit | Assumptions,
    goals: Goals | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    annotators: Sequence[str] | None = None,
    report: Report | None = None,
    **assumed: float | None,
) -> Plan:
    """Say how large a study has to be to show what is asked.

    Parameters
    ----------
    source : Audit or Assumptions
        A pilot, or what is assumed. Without a pilot a simulated world stands in for it where discrepancies are asked
        for, and the plan's notes say so.
    goals : Goals, optional
    draws : int
        Simulations of each size that is tried for raters; ten times as many for discrepancies.
    seed : int
    annotators : sequence of str, optional
        Of the pilot: those to compare with its reference. By default all but single raters.
    report : callable, optional
        Told the stage, and how much of it is done.
    assumed : float
        Fields of `Assumptions` that take the place of the pilot's.

    Raises
    ------
    DataError
        A goal or an assumption is impossible.
    IdError
        The pilot has no such annotator.
    EmptyError
        The pilot has no conflict, or no two annotators, and a discrepancy is asked for.
    """
    goals = goals or Goals()
    if draws < 1:
        raise DataError(f"draws = {draws}.", expected="1 or more")
    say = report or (lambda stage, done: None)
    pilot = source if isinstance(source, Audit) else None
    a = from_pilot(source, **assumed) if isinstance(source, Audit) else replace(source, **assumed)  # type: ignore[arg-type]
    others = _others(pilot, annotators)
    book = _Book(a, goals)
    say("rates", 0.0)
    if goals.within is not None:
        _add_interval(book, goals.within)
    if goals.difference is not None:
        _add_differences(book, goals.difference, pilot, others, assumed)
    ranking, people = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
    if goals.discrepancy is not None or goals.discrepancy_within is not None:
        world = pilot or simulated_pilot(a, seed)
        _add_discrepancies(book, world, others if pilot else ["simulated"], 10 * draws, ranking, say)
    if goals.deviant is not None:
        say("raters", 0.0)
        _add_raters(book, goals.deviant, draws, people, say)
    return Plan(*book.frames(), a, goals, pilot.name if pilot else "", seed, draws)


def _others(pilot: Audit | None, wanted: Sequence[str] | None) -> list[str]:
    """Return the annotators of a pilot to compare with its reference."""
    if pilot is None:
        if wanted:
            raise DataError(f"{shown(wanted[0])} is an annotator of no pilot.", expected="a saved audit to plan from")
        return []
    reference = pilot.settings.reference
    for name in wanted or ():
        pilot.table.annotator(name)
        if name == reference or name not in pilot.annotators:
            raise DataError(
                f"{shown(name)} is {'the reference itself' if name == reference else 'a single rater'}.",
                expected=f"one of {', '.join(shown(n) for n in pilot.annotators if n != reference)}",
            )
    return list(wanted) if wanted else [name for name in pilot.annotators if name != reference]


class _Book:
    """The rows of a plan while it is made."""

    def __init__(self, assumptions: Assumptions, goals: Goals) -> None:
        self.a, self.goals = assumptions, goals
        self.rows: list[dict[str, object]] = []
        self.sizes: list[dict[str, object]] = []

    def add(self, question: str, who: str, goal: float, needed: int | None, **known: object) -> None:
        """Add a row; what is not given is undefined."""
        a, goals, gone = self.a, self.goals, float("nan")
        row: dict[str, object] = {
            "question": question, "who": who, "goal": goal, "rate": gone, "share": gone,
            "design_effect": a.design_effect, "correlation": gone, "level": goals.each_level, "power": goals.power,
            "unit": "comparisons", "needed": gone if needed is None else float(needed), "comparisons": gone,
            "judgements": gone, "judgements_all": gone, "cost": gone, "present": float(a.comparisons),
            "power_now": gone, "half_width_now": gone, "note": "",
        } | known  # fmt: skip
        if needed is not None:
            n = needed if row["unit"] == "comparisons" else -(-needed * a.raters // goals.overlap)
            judged = n * a.principles
            total = judged * goals.orders
            row |= {"comparisons": float(n), "judgements": float(judged), "judgements_all": float(total)}
            row["cost"] = gone if goals.price is None else total * goals.price / 1000
        elif not row["note"]:
            row["note"] = f"not with {powers.MOST:,} either"
        self.rows.append(row)

    def size(self, question: str, who: str, size: int, **known: float) -> None:
        """Add a size, with what it would show."""
        gone = dict.fromkeys(("power", "half_width", "floor"), float("nan"))
        self.sizes.append({"question": question, "who": who, "size": size, **(gone | known)})

    def frames(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        if not self.rows:
            raise DataError("nothing is asked.", expected="one goal or more")
        return pl.DataFrame(self.rows), pl.DataFrame(self.sizes)


def _add_interval(book: _Book, within: float) -> None:
    a = book.a

    def half(n: int) -> float:
        return powers.half_width(a.arbitrariness, n * a.consensus / a.design_effect)

    needed = powers.smallest(lambda n: half(n) <= within)
    now = half(a.comparisons) if a.comparisons else np.nan
    book.add(QUESTIONS[0], "", within, needed, rate=a.arbitrariness, share=a.consensus, half_width_now=now,
             level=1 - LEVEL, power=np.nan)  # fmt: skip
    for n in _around(needed):
        book.size(QUESTIONS[0], "", n, half_width=half(n))


def _add_differences(
    book: _Book, difference: float, pilot: Audit | None, others: Sequence[str], assumed: Collection[str]
) -> None:
    """Add the sizes for two annotators on the same comparisons, pair by pair, and for two groups."""
    a, level = book.a, book.goals.each_level
    rate = a.arbitrariness
    other = rate + difference if rate + difference < 1 else rate - difference
    if not 0 < other < 1:
        raise DataError(f"no rate lies {difference:g} from {rate:g}.", expected="a smaller difference")
    for who, share, correlation in _pairs(pilot, others, a, (rate, other), assumed):
        try:
            only = powers.discordance(rate, other, correlation)
        except ValueError as error:
            raise DataError(f"{error}.", remedy="Assume another correlation.") from error
        variance = (sum(only) - (only[0] - only[1]) ** 2) / share

        def paired(n: int, one: float = share * only[0], two: float = share * only[1]) -> float:
            return powers.paired_power(int(n / a.design_effect), one, two, level=level)

        known = {"rate": rate, "share": share, "correlation": correlation}
        _add_test(book, QUESTIONS[1], who, difference, paired, variance, known)

    def cases(n: int) -> tuple[int, int]:
        of = n * a.consensus / a.design_effect
        return round(of * book.goals.split), round(of * (1 - book.goals.split))

    def unpaired(n: int) -> float:
        return powers.unpaired_power(cases(n), (rate, other), level=level)

    split = (book.goals.split, 1 - book.goals.split)
    variance = sum(r * (1 - r) / s for r, s in zip((rate, other), split, strict=True)) / a.consensus
    _add_test(book, QUESTIONS[2], "", difference, unpaired, variance, {"rate": rate, "share": a.consensus})


def _add_test(
    book: _Book, question: str, who: str, goal: float, power: Callable[[int], float], variance: float, known: _Known
) -> None:
    """Add a question whose power has a formula; `variance` is of one comparison."""
    a = book.a

    def half(n: int) -> float:
        return _Z * float(np.sqrt(variance * a.design_effect / n))

    needed = powers.smallest(lambda n: power(n) >= book.goals.power)
    now = (power(a.comparisons), half(a.comparisons)) if a.comparisons else (np.nan, np.nan)
    book.add(question, who, goal, needed, power_now=now[0], half_width_now=now[1], **known)
    for n in _around(needed):
        book.size(question, who, n, power=power(n), half_width=half(n))


def _pairs(
    pilot: Audit | None, others: Sequence[str], a: Assumptions, rates: tuple[float, float], assumed: Collection[str]
) -> list[tuple[str, float, float]]:
    """Return the pairs with the reference: who, share of the comparisons that both decide, correlation at `rates`."""
    if pilot is None:
        return [("", a.consensus, a.correlation)]
    table = pilot.table
    _, way, _ = states(table.X)
    own = table.annotator(pilot.settings.reference).dense(len(table))
    found = []
    for name in others:
        y = table.annotator(name).dense(len(table))
        both = (way != 0) & np.isin(own, (1, -1)) & np.isin(y, (1, -1))
        if not both.any():
            continue
        against = np.stack([own[both] == -way[both], y[both] == -way[both]]).astype(np.float64)
        correlation = 0.0
        if (against.std(axis=1) > 0).all():
            # Rates far apart leave little room for a correlation: what carries over is how much of it is taken.
            taken = float(np.cov(against, bias=True)[0, 1] / against.std(axis=1).prod()) / powers.largest_correlation(
                *against.mean(axis=1)
            )
            correlation = max(taken, 0.0) * powers.largest_correlation(*rates)
        share = a.consensus if "consensus" in assumed else float(both.mean())
        found.append((name, share, a.correlation if "correlation" in assumed else correlation))
    return found or [("", a.consensus, a.correlation)]


def _add_discrepancies(
    book: _Book, pilot: Audit, others: Sequence[str], draws: int, rng: np.random.Generator, report: Report
) -> None:
    goals = book.goals
    asked = [(q, g) for q, g in zip(QUESTIONS[3:5], (goals.discrepancy, goals.discrepancy_within), strict=True) if g]
    if not others:
        raise EmptyError("the pilot has one annotator.", expected="two or more, for a discrepancy")
    for k, name in enumerate(others):
        stage = f"drawing the pilot again, {name}"
        report(stage, k / len(others))
        pair = Resampled(pilot, name, rng)
        if not pair.conflicts:
            raise EmptyError(
                f"the pilot has no conflict that {shown(pilot.settings.reference)} and {shown(name)} both decide.",
                expected="principles that clash", remedy="Leave the questions on discrepancies out.",
            )  # fmt: skip
        _add_pair(book, pair, name, asked, draws, partial(_tell, report, stage, k / len(others)))


def _tell(report: Report, stage: str, done: float, size: int) -> None:
    report(f"{stage}, {size:,} comparisons", done)


def _add_pair(
    book: _Book, pair: Resampled, name: str, asked: list[tuple[str, float]], draws: int, tell: Callable[[int], None]
) -> None:
    """Add the questions on one pair's discrepancy: its error by a power law, its test by simulation."""
    goals, n = book.goals, pair.n
    sizes = [max(2, round(n * factor)) for factor in _RESAMPLED]
    errors = np.array([pair.error(size, draws) for size in sizes])
    floors = np.array([pair.floor(size, draws) for size in sizes])
    for size, error, floor in zip(sizes, errors, floors, strict=True):
        book.size(QUESTIONS[4], name, size, half_width=_Z * error, floor=floor)
    a = book.a
    assumed = "" if a.comparisons else (
        f"simulated: {a.principles} principles, {100 * a.conflict:.3g} % in conflict, priorities' sd {a.spread:.3g}"
    )  # fmt: skip
    now = {} if assumed else {"half_width_now": _Z * float(errors[1])}
    blur = pair.floor(2 * n, draws)  # halves of twice the pilot: two resamples of its own size
    if pair.conflicts < _FEW or not blur < _BLURRED:
        note = f"the pilot is too small to tell: {pair.conflicts} conflicts, two resamples are {100 * blur:.0f} % apart"
        for question, goal in asked:
            book.add(question, name, goal, None, note=note, **now)
        return
    for question, goal in asked:
        if question == QUESTIONS[4]:
            slope, height = np.polyfit(np.log(sizes), np.log(np.maximum(errors, 1e-6)), 1)
            wanted = float(np.exp((np.log(goal / _Z) - height) / slope)) if slope < -0.1 else np.inf
            reached = wanted <= _FURTHEST * n
            note = _noted(assumed, "" if reached else _far(n, assumed))
            book.add(question, name, goal, max(2, round(wanted)) if reached else None, note=note, power=np.nan,
                     level=1 - LEVEL, **now)  # fmt: skip
            continue
        mixture, planted = pair.mixture(goal)
        level = goals.each_level
        times = max(draws, round(20 / level))

        def draw(size: int, of: int, mixture: float = mixture, level: float = level) -> tuple[float, float]:
            tell(size)
            return pair.seen(size, of, mixture=mixture, level=level)

        found = powers.simulated_size(draw, goals.power, start=n // 4, most=_FURTHEST * n, draws=times // 4)
        if not assumed:
            hits, trials = draw(n, times)
            now["power_now"] = hits / trials
        nearest = f"for {100 * planted:.0f} %, the nearest that the pilot holds"
        note = _noted(
            nearest if abs(planted - goal) > 0.1 * goal else "",
            assumed,
            _far(n, assumed) if found.size is None else _ROUGH,
        )
        book.add(question, name, goal, found.size, note=note, level=level, **now)
        for size, power in zip(found.sizes.tolist(), found.power.tolist(), strict=True):
            book.size(question, name, size, power=power)


def _noted(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def _far(n: int, assumed: str) -> str:
    return f"more than {_FURTHEST * n:,} comparisons" if assumed else f"more than {_FURTHEST} times the pilot"


def _add_raters(book: _Book, deviant: float, draws: int, rng: np.random.Generator, report: Report) -> None:
    a, goals = book.a, book.goals
    rate, share = a.rater_rate or a.arbitrariness, a.rater_consensus or a.consensus
    if abs(deviant - rate) < 1e-9:
        raise DataError(f"a deviant rater's rate is that of the others, {rate:g}.", expected="another rate")
    kind: dict[str, Any] = {
        "share": share, "rate": rate, "sd": a.rater_sd, "deviant_rate": deviant, "raters": a.raters,
        "deviant_share": goals.deviant_share, "level": goals.level,
    }  # fmt: skip

    def draw(labels: int, times: int) -> tuple[int, int]:
        stage = f"raters, {labels:,} labels each"
        return powers.flags_found(labels, times, rng, **kind, report=lambda done: report(stage, done))

    least = powers.smallest(lambda n: powers.flag_power(n, **kind) >= goals.power, most=_MOST_LABELS)
    hits, trials = draw(a.labels, 4 * draws) if a.labels else (0, 0)
    now = hits / trials if trials else np.nan
    known = {
        "rate": rate, "share": share, "unit": "labels a rater", "level": goals.level, "present": float(a.labels),
        "power_now": now, "design_effect": 1.0,
    }  # fmt: skip
    if least is None:
        note = f"not with {_MOST_LABELS:,} labels either: too many raters of the population are so"
        book.add(QUESTIONS[5], "", deviant, None, note=note, **known)
        return
    found = powers.simulated_size(draw, goals.power, start=least, most=_MOST_LABELS, draws=draws)
    note = f"{least:,} if the population were known"
    book.add(QUESTIONS[5], "", deviant, found.size, note=note, **known)
    for size, power in zip(found.sizes.tolist(), found.power.tolist(), strict=True):
        book.size(QUESTIONS[5], "", size, power=power)


def _around(needed: int | None) -> list[int]:
    return [] if needed is None else sorted({max(1, round(needed * factor)) for factor in _SIZES})
