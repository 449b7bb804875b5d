"""Bands around a curve over prompts: the prompts are resampled, since candidates of one prompt stand and fall together.

A simultaneous band holds the whole curve, a pointwise one each of its points by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from discretion.metrics.resampling import LEVEL

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Bands:
    """A curve of K points, the mean over prompts.

    Parameters
    ----------
    value, se : float64 (K,)
        NaN where a prompt has no value: means of different prompts are no curve.
    low, high : float64 (K,)
        95 % interval of each point, Student's t: the percentiles of a bootstrap over 30 prompts are too narrow.
    band_low, band_high : float64 (K,)
        95 % band of the whole curve: the value and as many standard errors as the largest of the replicates' deviations
        exceeds in one of twenty.
    replicates : float64 (B, K)
    prompts : int
    """

    value: Float
    se: Float
    low: Float
    high: Float
    band_low: Float
    band_high: Float
    replicates: Float
    prompts: int


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float
    se: float = float("nan")


def weights(rng: np.random.Generator, replicates: int, prompts: int) -> Float:
    """Return bootstrap weights of prompts, (B, P), each row with the sum 1."""
    return rng.multinomial(prompts, np.full(prompts, 1.0 / prompts), size=replicates) / prompts


def bands(values: Float, w: Float) -> Bands:
    """Return the mean curve of prompts with its bands.

    Parameters
    ----------
    values : float64 (P, K)
    w : float64 (B, P)
        See `weights`.
    """
    import scipy.special

    prompts = len(values)
    value = values.mean(axis=0)
    se = values.std(axis=0, ddof=1) / np.sqrt(prompts) if prompts > 1 else np.full(len(value), np.nan)
    replicates = w @ values
    t = float(scipy.special.stdtrit(max(prompts - 1, 1), 0.5 + LEVEL / 2))
    wide = t
    sure = np.isfinite(se) & (se > 0)
    if len(w) and sure.any():
        # Studentised by each replicate's own standard error: with few prompts its denominator errs with it.
        second = np.maximum(w @ values[:, sure] ** 2 - replicates[:, sure] ** 2, 0.0) / max(prompts - 1, 1)
        own = np.sqrt(second)
        apart = np.abs(replicates[:, sure] - value[sure])
        ratio = np.divide(apart, own, out=np.zeros_like(apart), where=own > 0)
        wide = max(t, float(np.quantile(ratio.max(axis=1), LEVEL)))
    return Bands(value, se, value - t * se, value + t * se, value - wide * se, value + wide * se, replicates, prompts)


def mean_interval(values: Float) -> tuple[float, float, float, float]:
    """Return mean, standard error and 95 % interval (Student's t) of one number a prompt; NaN for a single prompt."""
    found = bands(values[:, None], np.empty((0, len(values))))
    return float(found.value[0]), float(found.se[0]), float(found.low[0]), float(found.high[0])
