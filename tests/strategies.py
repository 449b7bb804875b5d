"""Hypothesis strategies: votes with every answer and gaps, and whole tables of preferences."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from discretion.table import PreferenceTable
from discretion.vote import MISSING

ANSWERS = (-1, 0, 1, MISSING)


def votes(*shape: int, missing: bool = True) -> st.SearchStrategy[np.ndarray]:
    """Votes int8 of a given shape."""
    answers = ANSWERS if missing else ANSWERS[:3]
    return hnp.arrays(np.int8, shape, elements=st.sampled_from(answers))


@st.composite
def principle_votes(draw: st.DrawFn, *, most: int = 40, principles: int = 6, missing: bool = True) -> np.ndarray:
    """Votes int8 (N, P) with a few comparisons and principles."""
    n, p = draw(st.integers(1, most)), draw(st.integers(1, principles))
    return draw(votes(n, p, missing=missing))


@st.composite
def judged(
    draw: st.DrawFn, *, most: int = 40, principles: int = 6, annotators: int = 1, missing: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Votes X int8 (N, P) and labels int8 (N,), or (N, A) for several annotators."""
    X = draw(principle_votes(most=most, principles=principles, missing=missing))
    Y = draw(votes(len(X), annotators, missing=missing))
    return X, Y[:, 0] if annotators == 1 else Y


@st.composite
def unit_codes(draw: st.DrawFn, n: int) -> np.ndarray:
    """A unit for each of `n` comparisons: codes from 0, all in use, of unequal sizes."""
    raw = draw(hnp.arrays(np.int32, n, elements=st.integers(0, max(0, n - 1))))
    return np.unique(raw, return_inverse=True)[1].astype(np.int32)


@st.composite
def wins(draw: st.DrawFn, *, principles: int = 7, most: int = 4) -> np.ndarray:
    """Sparse matrices of wins (P, P), zero on the diagonal: most have several components."""
    p = draw(st.integers(1, principles))
    W = draw(hnp.arrays(np.float64, (p, p), elements=st.integers(0, most).map(float)))
    keep = draw(hnp.arrays(bool, (p, p)))
    W = W * keep
    np.fill_diagonal(W, 0.0)
    return W


@st.composite
def tables(
    draw: st.DrawFn, *, most: int = 30, principles: int = 5, annotators: int = 3, missing: bool = True
) -> PreferenceTable:
    """Tables with at least one principle's vote."""
    X = draw(principle_votes(most=most, principles=principles, missing=missing))
    if (X == MISSING).all():
        X = X.copy()
        X[0, 0] = 1
    a = draw(st.integers(1, annotators))
    return PreferenceTable.from_arrays(X, draw(votes(len(X), a, missing=missing)))
