"""Curves of selection from pools: exact, beside Monte Carlo permutation as the published scripts do it.

    python benchmarks/hedge_pool.py [--prompts 800] [--candidates 12600]

Best of n for n up to 40. The reference shuffles each prompt's candidates 1,200 times and takes running bests; it is run
on a few prompts in the same process, and its time is scaled to all. Then soft best-of-n for all n up to 128.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from numpy.typing import NDArray

from discretion.hedge.pool import Pool, best_of_n
from discretion.hedge.soft_pool import soft_best_of_n

MOST, PERMUTATIONS, FEW = 40, 1200, 2


def permuted(proxy: NDArray[np.float64], true: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the curve of one prompt by permutation: the true reward of the running best of shuffled candidates."""
    total = np.zeros(MOST)
    for _ in range(PERMUTATIONS):
        order = rng.permutation(len(proxy))[:MOST]
        shuffled = proxy[order]
        best = np.maximum.accumulate(shuffled)
        at = np.maximum.accumulate(np.where(shuffled == best, np.arange(MOST), 0))
        total += true[order][at]
    return total / PERMUTATIONS


def main() -> None:
    """Run all and print the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=800)
    parser.add_argument("--candidates", type=int, default=12_600)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    proxy = rng.normal(size=(given.prompts, given.candidates))
    true = proxy + rng.normal(size=proxy.shape)
    begun = time.perf_counter()
    pool = Pool.of(proxy, true)
    sorted_in = time.perf_counter() - begun
    n = np.arange(1, MOST + 1)
    best_of_n(pool, n)  # warm
    begun = time.perf_counter()
    exact = best_of_n(pool, n)
    ours = time.perf_counter() - begun
    begun = time.perf_counter()
    drawn = np.stack([permuted(proxy[p], true[p], rng) for p in range(FEW)])
    theirs = (time.perf_counter() - begun) * given.prompts / FEW
    off = np.abs(drawn - exact[:FEW]).max()
    print(f"{given.prompts} prompts x {given.candidates:,} candidates, n to {MOST}")
    print(f"exact {ours:.3f} s (sorting the pool, once: {sorted_in:.1f} s)")
    print(f"{PERMUTATIONS:,} permutations {theirs:,.0f} s, extrapolated from {FEW} prompts; off by up to {off:.3f}")
    print(f"{theirs / ours:,.0f} times as fast; with the sorting {theirs / (ours + sorted_in):,.0f} times")
    for prompts in (given.prompts // 8, given.prompts // 4, given.prompts // 2, given.prompts):
        part = Pool.of(proxy[:prompts], true[:prompts])
        begun = time.perf_counter()
        best_of_n(part, n)
        print(f"  {prompts:>5} prompts {1000 * (time.perf_counter() - begun):8.1f} ms")
    few = Pool.of(proxy[:3, :1000], true[:3, :1000])
    for lam in (1.0, 5.0, 20.0, 50.0, 100.0):
        begun = time.perf_counter()
        soft_best_of_n(few, lam, 128)
        each = (time.perf_counter() - begun) / few.prompts
        print(f"soft best of n, all n to 128, 1,000 candidates, lam = {lam:>5}: {each:.3f} s a prompt and temperature")


if __name__ == "__main__":
    main()
