"""What a tuned pool says, in plain words: where to stop, how sure that is, and what not to do.

A place to stop is named only where the data determine one; a fall is called hacking only where its interval is above 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from discretion.hedge.alternatives import Alternative
from discretion.hedge.bands import Interval
from discretion.hedge.tune import Family, Tuned


@dataclass(frozen=True)
class Verdict:
    """The verdict on a proxy.

    Parameters
    ----------
    headline : str
        One sentence.
    sentences : tuple of str
        What stands behind it, what it does not show, and what else would serve.
    kind : str
        "stop", "undetermined", "go on" or "do not select".
    """

    headline: str
    sentences: tuple[str, ...]
    kind: str


def verdict(tuned: Tuned, proxy: str) -> Verdict:
    """Return the verdict.

    Parameters
    ----------
    tuned : Tuned
    proxy : str
        What it is called.
    """
    best_of_n = tuned.families[0]
    value, at = best_of_n.curve.value, best_of_n.parameter
    first, star, last = value[0], value[best_of_n.best], value[-1]
    n, largest = int(at[best_of_n.best]), int(at[-1])
    path = f"best of n by {proxy} goes from {_r(first)} at n = 1"
    if best_of_n.best == 0:
        kind = "do not select"
        head = f"Do not select by {proxy}: {path} to {_r(last)} at n = {largest}, and is never above where it began."
    elif best_of_n.best == len(value) - 1:
        kind = "go on"
        head = f"No hacking up to n = {largest}: {path} to {_r(last)}, and is highest at the end."
    elif best_of_n.determined:
        kind = "stop"
        head = f"Stop at n = {n}: {path} to {_r(star)}, and to {_r(last)} at n = {largest}."
    else:
        kind = "undetermined"
        head = (
            f"These data do not determine where to stop: {path} to {_r(star)} at n = {n} and to {_r(last)} at n = "
            f"{largest}, but another sample of prompts could put the peak anywhere from n = "
            f"{best_of_n.theta.low:.0f} to {best_of_n.theta.high:.0f}."
        )
    return Verdict(head, tuple(_sentences(tuned, best_of_n, kind, n, largest)), kind)


def _sentences(tuned: Tuned, best: Family, kind: str, n: int, largest: int) -> list[str]:
    said = []
    if kind == "stop":
        said.append(f"The peak lies between n = {best.theta.low:.0f} and {best.theta.high:.0f} (95 % interval).")
    if kind in ("stop", "undetermined"):
        drop = best.drop
        shown = "This is reward hacking." if tuned.hacked else "So hacking is not shown: the fall may be chance."
        said.append(
            f"From the peak to n = {largest} it falls by {_r(drop.value)} (95 % interval {_span(drop)}), measured on "
            f"prompts that did not choose the peak. {shown}"
        )
    if kind != "do not select":
        said.append(
            f"Against no selection, the tuned n gains {_r(best.gain.value)} (95 % interval {_span(best.gain)}), "
            "measured likewise."
        )
    said.append(
        f"At n = {largest}, {tuned.lose.value:.0%} of the {tuned.prompts:,} prompts do worse than without selection "
        f"(95 % interval {tuned.lose.low:.0%} to {tuned.lose.high:.0%})."
    )
    if tuned.hacked or best.curve.value[-1] < best.curve.value[0]:
        said.append(f"Do not use n = {largest}.")
    poisson = [f for f in tuned.families if "Poisson" in f.name]
    if poisson:
        high = max(f.curve.value[f.best] for f in poisson)
        said.append(
            f"A random n cannot help here: its reward is a mean of best-of-n's ({_r(high)} at best, against "
            f"{_r(best.curve.value[best.best])}). It buys a smaller divergence at the same proxy."
        )
    said += _others(tuned, best)
    said.append(
        f"There are {tuned.candidates:,} candidates of {tuned.prompts:,} prompts; the largest n is {largest}. Other "
        "prompts, another policy or another proxy may peak elsewhere."
    )
    return said


def _others(tuned: Tuned, best: Family) -> list[str]:
    by_name = {a.name: a for a in tuned.alternatives}
    said = []
    top = best.curve.value[best.best]
    rank = by_name.get("best rank")
    if rank is not None and rank.reward.value > top + max(best.curve.se[best.best], 1e-12):
        said.append(
            f"Always taking {rank.detail} gives {_r(rank.reward.value)}, far above every law: recalibrate the proxy "
            "instead of hedging it."
        )
    again: Alternative | None = by_name.get("recalibrated proxy")
    if again is not None:
        better = "more than" if again.reward.value > top else "not more than"
        said.append(
            f"With the proxy recalibrated on other prompts, {again.detail} gives {_r(again.reward.value)}: {better} "
            f"the tuned best of n ({_r(top)})."
        )
    return said


def _r(value: float) -> str:
    """Return a reward: .668 of a share, more digits of what is larger."""
    if abs(value) >= 1:
        return f"{value:.4g}"
    text = f"{value:.3f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def _span(interval: Interval) -> str:
    return f"{_r(interval.low)} to {_r(interval.high)}"
