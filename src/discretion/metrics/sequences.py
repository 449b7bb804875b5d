"""Confidence sequences: intervals that hold at all times together, so that judging can end once it has its answer.

One may look after every judgement and stop at will; the price is an interval about twice as wide as one for a number
of judgements that was fixed beforehand.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.special
from numpy.typing import ArrayLike, NDArray

from discretion.metrics.resampling import LEVEL

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

_PRIOR = 0.5  # Jeffreys': where all of 2,000 are alike 30 % narrower than a uniform one, elsewhere as wide
_NEWTON = 6  # steps, each of which only narrows
_HALVINGS = 40  # of an interval no longer than 1
_STAKES = scipy.special.expit(np.linspace(-5.0, 2.0, 8))  # of a capital: small ones for many values, large for few


def share_sequence(
    count: Float, n: Float, *, level: float = LEVEL, of: int | None = None, running: bool = True
) -> tuple[Float, Float]:
    """Return an interval for a share at each time, all of them together valid at `level`.

    The values that the likelihood ratio against a mixture does not rule out: those p at which the probability of the
    outcomes, averaged over a beta(1/2, 1/2) prior, is below 1 / (1 - level) times their probability at p. At the
    truth this ratio is a martingale (Robbins 1970), so that it ever gets there with a probability of at most 1 - level
    (Ville). It is the prior-posterior ratio of Waudby-Smith and Ramdas (2020, Confidence sequences for sampling
    without replacement, section 2), with and without replacement.

    Parameters
    ----------
    count, n : float64 (T,)
        Ones among the first n outcomes, whole numbers; n = 0 leaves everything open.
    level : float
        Of all intervals together.
    of : int, optional
        Outcomes in the whole population, drawn at random without replacement; the share is then the population's,
        and the interval shrinks to it as n approaches `of`. By default draws are independent of each other.
    running : bool
        Intersect each interval with those before it, which costs nothing. Where `low` then exceeds `high` nothing is
        left: by chance, at most 1 - level, or because the draws are not what was assumed.

    Returns
    -------
    low, high : float64 (T,)

    Raises
    ------
    ValueError
        Counts are not those of 0 and 1, exceed `of`, or go back in time though `running`; `level` is not in 0 … 1.
    """
    k, m = np.asarray(count, np.float64), np.asarray(n, np.float64)
    spare = -np.log(_miss(level))
    if k.shape != m.shape or k.ndim != 1:
        raise ValueError(f"count has the shape {k.shape} and n {m.shape}: expected one of each for every time.")
    if not (np.isfinite(m).all() and (k == np.floor(k)).all() and (m == np.floor(m)).all()):
        raise ValueError("count or n is not a whole number: expected numbers of outcomes, without weights.")
    if not ((k >= 0) & (k <= m)).all():
        raise ValueError("a count is below 0 or above its n: expected the ones among n outcomes.")
    if running and ((np.diff(m) < 0).any() or (np.diff(k) < 0).any() or (np.diff(m - k) < 0).any()):
        raise ValueError("count or n falls over time: sum them up, or pass running=False where rows are no times.")
    mixed = scipy.special.betaln(_PRIOR + k, _PRIOR + m - k) - scipy.special.betaln(_PRIOR, _PRIOR)
    if of is None:
        share = np.divide(k, m, out=np.full(k.shape, 0.5), where=m > 0)

        def likely(p: Float) -> Bool:
            return np.asarray(scipy.special.xlogy(k, p) + scipy.special.xlog1py(m - k, -p) > mixed - spare)

        low, high = _edge(likely, share, np.zeros_like(k)), _edge(likely, share, np.ones_like(k))
    else:
        _fits(of, int(m.max(initial=0)))
        low, high = _finite_edges(k, m, mixed - spare, of)
    return _over_time(low, high, running)


def mean_sequence(
    x: Float,
    *,
    low: float = 0.0,
    high: float = 1.0,
    level: float = LEVEL,
    of: int | None = None,
    start: float | None = None,
    running: bool = True,
) -> tuple[Float, Float]:
    """Return an interval for the mean of bounded values after each of them, all together valid at `level`.

    The empirical Bernstein supermartingale with predicted means (Waudby-Smith and Ramdas 2024, Estimating means of
    bounded random variables by betting, theorem 2; without replacement section 5), mixed over constant stakes in place
    of their plug-ins: up to a fifth wider than theirs at 100 values, 9 to 33 % narrower at 20,000, and 1.7 to 2.2 times
    as wide as an interval at a fixed n. Their hedged capital (theorem 3) is narrower where values are few or rare, but
    has no closed form: on 0 and 1 with means of 0.02 to 0.5 this was 12 to 39 % wider at 100 values, and between 20 %
    wider and 19 % narrower at 2,000.

    Parameters
    ----------
    x : float64 (n,)
        In order of arrival, within `low` … `high`.
    low, high : float
        What a value can be at all, known beforehand, not the least and the greatest of `x`.
    level, of, running :
        As in `share_sequence`, which is narrower for fewer than about 2,000 values of 0 and 1.
    start : float, optional
        The mean that is guessed before the first value; by default the middle. A bad guess costs width, never level.

    Returns
    -------
    low, high : float64 (n,)

    Raises
    ------
    ValueError
        A value is outside the range, the range is empty, or there are more values than `of`.
    """
    x = _within(x, low, high)
    miss, guess = _miss(level) / 2, _start(start, low, high)
    gain, drawn = np.ones(len(x)), np.arange(len(x), dtype=np.float64)
    if of is not None:
        _fits(of, len(x))
        gain = of / (of - drawn)

    def least(values: Float, guess: float) -> Float:
        taken = np.zeros(len(x)) if of is None else _before(values) / (of - drawn)
        return _least_mean(values, taken, gain, top=high, reach=high - low, guess=guess, miss=miss)

    lower, upper = _both_sides(least, x, low, high, guess)
    if of is not None:
        lower, upper = _still_open(lower, upper, x, low, high, of)
    return _over_time(np.clip(lower, low, high), np.clip(upper, low, high), running)


def weighted_mean_sequence(
    x: Float,
    probability: Float,
    *,
    of: int,
    floor: float | None = None,
    low: float = 0.0,
    high: float = 1.0,
    level: float = LEVEL,
    replaced: bool = True,
    start: float | None = None,
    running: bool = True,
) -> tuple[Float, Float]:
    """Return an interval for a population's mean after each draw, where what to draw next may depend on what was seen.

    x_t / (M q_t) has the population's mean as its expectation, whatever the rule that chose the probabilities
    (Horvitz and Thompson 1952; Hansen and Hurwitz 1943), and of 0 … 1 it is at least 0, however small q_t was: so
    the lower end needs no floor, and the upper is the lower one of low + high - x (Waudby-Smith, Wu, Ramdas,
    Karampatziakis and Mineiro 2024, Anytime-valid off-policy inference for contextual bandits). Without
    replacement it is x_t / (M q_t) plus what was drawn before, over M (Shekhar, Xu, Lipton, Liang and Ramdas 2023,
    Risk-limiting financial audits via weighted sampling without replacement).

    For the difference of two shares measured on the same draws, pass their differences with `low` -1 and a `floor`.

    Parameters
    ----------
    x : float64 (n,)
        Values of the items drawn, in order, within `low` … `high`.
    probability : float64 (n,)
        That the item drawn had at its draw, given all before it; those of all items sum to 1 at each draw.
    of : int
        M, items in the population.
    floor : float, optional
        Below which no probability of any item that could be drawn ever falls, at most 1 / M. Needed where `low` is
        below 0.
    replaced : bool
        Whether an item that was drawn can be drawn again.
    low, high, level, start, running :
        As in `mean_sequence`.

    Returns
    -------
    low, high : float64 (n,)

    Raises
    ------
    ValueError
        Values or probabilities are outside their range, or `floor` is missing or does not hold.
    """
    x, q = _within(x, low, high), np.asarray(probability, np.float64)
    if q.shape != x.shape or not ((q > 0) & (q <= 1)).all():
        raise ValueError("a probability is missing, or not above 0 and at most 1: expected one for each value.")
    _fits(of, 0 if replaced else len(x))
    if floor is None and low < 0:
        raise ValueError("values can be below 0 and there is no floor: say below what no probability ever falls.")
    if floor is not None and not (0 < floor <= (1 + 1e-9) / of and (q >= floor * (1 - 1e-9)).all()):
        raise ValueError(f"floor {floor} does not hold: expected above 0, at most 1 / {of}, no probability below it.")
    # How far below `high` a weighted value can fall: a small probability takes only negative ones further down.
    reach = high if floor is None else high - min(low, 0.0) / (of * floor)
    miss, guess = _miss(level) / 2, _start(start, low, high)

    def least(values: Float, guess: float) -> Float:
        taken = np.zeros(len(x)) if replaced else _before(values) / of
        gain = np.ones(len(x))
        return _least_mean(values / (of * q), taken, gain, top=high, reach=reach, guess=guess, miss=miss)

    lower, upper = _both_sides(least, x, low, high, guess)
    if not replaced:
        lower, upper = _still_open(lower, upper, x, low, high, of)
    return _over_time(np.clip(lower, low, high), np.clip(upper, low, high), running)


def difference_sequence(difference: Float, *, level: float = LEVEL, running: bool = True) -> tuple[Float, Float]:
    """Return an interval for the mean of paired differences after each, all of them together valid at `level`.

    The means against which no bettor has grown rich. With m = (1 + mean) / 2 and u = (1 + difference) / 2, who stakes
    a share b of the capital on more than m multiplies it by 1 - b + b u / m at each pair; half of the capital is spread
    over constant shares b, the other half bets on less (Waudby-Smith and Ramdas 2024, section 4, with a mixture in
    place of plug-ins). It rests on the counts alone, not on their order, and is 1.7 to 1.9 times as wide as a normal
    interval at a fixed n, more where fewer than ten pairs differ.

    Draws are independent of each other; for those without replacement use `mean_sequence` from -1 to 1.

    Parameters
    ----------
    difference : float64 (n,)
        -1, 0 or 1 of each pair, in order of arrival.
    level, running :
        As in `share_sequence`.

    Returns
    -------
    low, high : float64 (n,)

    Raises
    ------
    ValueError
        A difference is none of -1, 0 and 1.
    """
    d = np.asarray(difference, np.float64)
    if d.ndim != 1 or not np.isin(d, (-1.0, 0.0, 1.0)).all():
        raise ValueError("a difference is none of -1, 0 and 1: use mean_sequence for other values.")
    less, same, more = (np.cumsum(d == sign).astype(np.float64) for sign in (-1, 0, 1))
    enough = np.log(2 * len(_STAKES) / _miss(level))

    def least(less: Float, more: Float) -> Float:
        def poor(m: Float) -> Bool:
            capital = np.full(m.shape, -np.inf)
            at = np.maximum(m, np.finfo(np.float64).tiny)
            for b in _STAKES:
                won = more * np.log(1 - b + b / at) + same * np.log(1 - b + b / (2 * at)) + less * np.log1p(-b)
                capital = np.logaddexp(capital, won)
            return np.asarray(capital < enough)

        n = less + same + more
        return _edge(poor, (more + same / 2) / n, np.zeros_like(n))

    return _over_time(2 * least(less, more) - 1, 1 - 2 * least(more, less), running)


def first_decided(low: Float, high: Float, at: ArrayLike) -> int:
    """Return the first time at which an interval leaves out a value, or every one of several; -1 if none does.

    Parameters
    ----------
    low, high : float64 (T,)
        NaN leaves out nothing.
    at : float or float (A,)
        For instance 0.5: which of two is the more frequent.

    Raises
    ------
    ValueError
        There is no value, or it is NaN.
    """
    values = np.atleast_1d(np.asarray(at, np.float64))
    if not values.size or np.isnan(values).any():
        raise ValueError("there is no value to leave out: expected a number, or several.")
    left_out = (values < np.asarray(low)[:, None]) | (values > np.asarray(high)[:, None])
    decided = left_out.all(axis=1)
    return int(decided.argmax()) if decided.any() else -1


def _edge(kept: Callable[[Float], Bool], inside: Float, outside: Float) -> Float:
    """Return where, on the way from `inside` to `outside`, values cease to be kept, rounded outwards."""
    for _ in range(_HALVINGS):
        between = (inside + outside) / 2
        keep = kept(between)
        inside, outside = np.where(keep, between, inside), np.where(keep, outside, between)
    return outside


def _finite_edges(k: Float, n: Float, least: Float, of: int) -> tuple[Float, Float]:
    """Return the first and the last share that is kept, in a population of which n were drawn without replacement."""
    log_factorial = scipy.special.gammaln(np.arange(of + 1) + 1.0)
    seen, seen_not = k.astype(np.int64), (n - k).astype(np.int64)

    def likely(ones: NDArray[np.int64]) -> Bool:
        rest = of - ones
        ways = log_factorial[ones] - log_factorial[ones - seen] + log_factorial[rest] - log_factorial[rest - seen_not]
        return np.asarray(ways - log_factorial[of] + log_factorial[of - seen - seen_not] > least)

    peak = np.floor(np.divide((of + 1) * k, n, out=np.full(k.shape, of / 2), where=n > 0)).astype(np.int64)
    peak = np.clip(peak, seen, of - seen_not)
    ends = []
    for end, outwards in ((seen, -1), (of - seen_not, 1)):
        inside, outside = peak, end + outwards
        while (np.abs(outside - inside) > 1).any():
            between = (inside + outside) // 2
            between = np.where(np.abs(outside - inside) > 1, between, inside)
            keep = likely(between)
            inside, outside = np.where(keep, between, inside), np.where(keep, outside, between)
        ends.append(inside / of)
    return ends[0], ends[1]


def _least_mean(z: Float, taken: Float, gain: Float, *, top: float, reach: float, guess: float, miss: float) -> Float:
    """Return the lower end for a mean, where gain_t * mean - taken_t is expected of z_t and z_t >= top - reach.

    For residuals r >= -1 and stakes 0 <= b < 1, exp(b r - psi(b) r²) <= 1 + b r with psi(b) = -log(1 - b) - b (Fan,
    Grama and Liu 2015), so that the product of exp(b (z - expected) - psi(b) (z - predicted)²), in units of `reach`,
    is a supermartingale if each prediction rests on the past alone; so is its mean over stakes.
    """
    predicted = (guess + _before((z + taken) / gain)) / np.arange(1, len(z) + 1)
    residual = z - np.minimum(gain * predicted - taken, top)
    squares = np.cumsum((residual / reach) ** 2)
    psi = -np.log1p(-_STAKES) - _STAKES
    fees = np.multiply.outer(squares, psi)
    enough = np.log(len(_STAKES) / miss)
    # The lead over the mean, in units of `reach`, with which one stake alone would be rich; all together need less.
    lead = ((enough + fees) / _STAKES).min(axis=1)
    for _ in range(_NEWTON):  # capital is convex in the lead: from above steps never go too far
        won = np.multiply.outer(lead, _STAKES) - fees
        most = won.max(axis=1, keepdims=True)
        capital = np.exp(won - most)
        total = capital.sum(axis=1)
        lead = lead - (most[:, 0] + np.log(total) - enough) * total / (capital @ _STAKES)
    return np.asarray((np.cumsum(z + taken) - reach * lead) / np.cumsum(gain))


def _both_sides(
    least: Callable[[Float, float], Float], x: Float, low: float, high: float, guess: float
) -> tuple[Float, Float]:
    """Return the lower end, and the upper as the lower of the values turned round."""
    return least(x, guess), low + high - least(low + high - x, low + high - guess)


def _still_open(lower: Float, upper: Float, x: Float, low: float, high: float, of: int) -> tuple[Float, Float]:
    """Cut ends to what the values that were not drawn can still make of the mean."""
    total, left = np.cumsum(x), of - np.arange(1, len(x) + 1)
    return np.maximum(lower, (total + left * low) / of), np.minimum(upper, (total + left * high) / of)


def _over_time(low: Float, high: Float, running: bool) -> tuple[Float, Float]:
    return (np.maximum.accumulate(low), np.minimum.accumulate(high)) if running else (low, high)


def _before(x: Float) -> Float:
    """Return the sum of all before each."""
    return np.concatenate([np.zeros(min(len(x), 1)), np.cumsum(x[:-1])])


def _miss(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level {level} is not between 0 and 1: pass 0.95 for 95 %.")
    return 1 - level


def _fits(of: int, n: int) -> None:
    if of < 1 or of != int(of) or n > of:
        raise ValueError(f"{n} draws without replacement of {of}: expected a population of a whole number, no smaller.")


def _within(x: Float, low: float, high: float) -> Float:
    values = np.asarray(x, np.float64)
    if not (np.isfinite([low, high]).all() and low < high):
        raise ValueError(f"the range {low} … {high} is empty or open: expected low < high, both finite.")
    if values.ndim != 1 or not ((values >= low) & (values <= high)).all():
        raise ValueError(f"a value is missing or outside {low} … {high}: leave out failed judgements, or widen it.")
    return values


def _start(start: float | None, low: float, high: float) -> float:
    if start is not None and not low <= start <= high:
        raise ValueError(f"start {start} is outside {low} … {high}: expected a guess of the mean.")
    return (low + high) / 2 if start is None else start
