"""Words that set one set of texts apart from another, and texts that belong together by their words.

Counts of documents, no language model: any language whose words are separated, and the same answer every time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from discretion.metrics.resampling import false_discovery

Float = NDArray[np.float64]

_WORD = re.compile(r"[^\W\d_]{2,}")
_FEWEST = 3  # texts that a word has to be in
_MOST_WORDS = 20_000
_MOST_TEXTS = 1_000  # that are put into clusters: their distances are a square
_AXES = 20


@dataclass(frozen=True)
class Vocabulary:
    """Which words stand in which texts.

    Parameters
    ----------
    words : tuple of str
        V, in small letters, the most frequent first.
    present : scipy.sparse.csr_array of float64 (N, V)
        1 where a text has a word.
    """

    words: tuple[str, ...]
    present: scipy.sparse.csr_array


def vocabulary(texts: Sequence[str], *, fewest: int = _FEWEST) -> Vocabulary:
    """Return the words of N texts that stand in at least `fewest` of them."""
    place: dict[str, int] = {}
    rows: list[int] = []
    columns: list[int] = []
    for k, text in enumerate(texts):
        for word in set(_WORD.findall(text.lower())):
            rows.append(k)
            columns.append(place.setdefault(word, len(place)))
    every = scipy.sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(texts), len(place)))
    often = np.asarray(every.sum(axis=0)).ravel() if len(place) else np.zeros(0)
    names = list(place)
    kept = sorted((k for k in range(len(names)) if often[k] >= fewest), key=lambda k: (-often[k], names[k]))[
        :_MOST_WORDS
    ]
    return Vocabulary(tuple(names[k] for k in kept), scipy.sparse.csr_array(every[:, kept]))


@dataclass(frozen=True)
class Contrast:
    """How much more often something happens with each word than without it.

    Parameters
    ----------
    words : tuple of str
        Those that tell, the surest first.
    with_, without : float64 (n,)
        The share of the texts with the word, and of those without, in which it happens.
    count : float64 (n,)
        Texts with the word in which it happens.
    q : float64 (n,)
        Of Fisher's exact test, one-sided, adjusted for all words.
    """

    words: tuple[str, ...]
    with_: Float
    without: Float
    count: Float
    q: Float


def contrast(found: Vocabulary, happens: NDArray[np.bool_], *, level: float = 0.05) -> Contrast:
    """Return the words with which something happens more often than without.

    Parameters
    ----------
    found : Vocabulary
        Of N texts.
    happens : bool (N,)
    level : float
        Of the false-discovery rate.
    """
    import scipy.stats  # loads slowly, and only this needs it

    n, total = len(happens), float(happens.sum())
    has = np.asarray(found.present.sum(axis=0), np.float64).ravel()
    both = np.asarray(happens.astype(np.float64) @ found.present, np.float64).ravel()
    q = false_discovery(np.asarray(scipy.stats.hypergeom.sf(both - 1, n, total, has))) if len(has) else np.zeros(0)
    order = np.lexsort((-both, q))
    order = order[q[order] < level]
    rest = n - has[order]
    share = np.divide(both[order], has[order], out=np.full(len(order), np.nan), where=has[order] > 0)
    other = np.divide(total - both[order], rest, out=np.full(len(order), np.nan), where=rest > 0)
    return Contrast(tuple(found.words[k] for k in order), share, other, both[order], q[order])


@dataclass(frozen=True)
class Clusters:
    """Texts that belong together.

    Parameters
    ----------
    of : int64 (n,)
        The cluster of each text, the largest first; -1 for texts in none.
    words : tuple of tuple of str
        For each cluster the words that set it apart from the other texts.
    """

    of: NDArray[np.int64]
    words: tuple[tuple[str, ...], ...]


def clusters(
    texts: Sequence[str],
    among: Sequence[str],
    *,
    most: int = 6,
    fewest: int = 3,
    rng: np.random.Generator,
) -> Clusters:
    """Put texts together by their rarer words: Ward's linkage on latent semantic axes.

    Words by the logarithm of their rarity among all texts, reduced to at most 20 axes by singular values (Deerwester
    et al. 1990); as many clusters as have the best mean silhouette (Rousseeuw 1987).

    Parameters
    ----------
    texts : sequence of str
        n; above 1,000 a sample of them, the rest in no cluster.
    among : sequence of str
        The texts that they were taken from: what is common there sets nothing apart.
    most : int
        Clusters.
    fewest : int
        Texts of a cluster; smaller ones are none.
    rng : generator
        For the sample.
    """
    from scipy.cluster import hierarchy

    n = len(texts)
    chosen = np.arange(n) if n <= _MOST_TEXTS else np.sort(rng.choice(n, _MOST_TEXTS, replace=False))
    of = np.full(n, -1)
    known, rarity = _rarer(vocabulary([texts[k] for k in chosen], fewest=2), vocabulary(among, fewest=2), len(among))
    if len(chosen) < 2 * fewest or len(known.words) < 2:
        return Clusters(of, ())
    axes = _axes(known, rarity)
    tree = hierarchy.linkage(axes, "ward")
    apart = np.sqrt(np.maximum(((axes[:, None] - axes[None]) ** 2).sum(axis=2), 0.0))
    cuts = [hierarchy.fcluster(tree, pieces, "maxclust").astype(np.int64) for pieces in range(2, most + 1)]
    codes = max(cuts, key=lambda cut: _silhouette(apart, cut))
    names = [c for c in np.unique(codes) if (codes == c).sum() >= fewest]
    names.sort(key=lambda c: -int((codes == c).sum()))
    told = []
    for place, name in enumerate(names):
        of[chosen[codes == name]] = place
        told.append(contrast(known, codes == name).words[:8])
    return Clusters(of, tuple(told))


def _rarer(found: Vocabulary, among: Vocabulary, texts: int) -> tuple[Vocabulary, Float]:
    """Leave out the words of more than a third of all texts; return the rest and the logarithm of their rarity."""
    often = dict(zip(among.words, np.asarray(among.present.sum(axis=0)).ravel().tolist(), strict=True))
    counts = np.array([max(often.get(word, 1.0), 1.0) for word in found.words])
    kept = np.flatnonzero(counts <= texts / 3)
    words = tuple(found.words[k] for k in kept)
    return Vocabulary(words, scipy.sparse.csr_array(found.present[:, kept])), np.log(texts / counts[kept])


def _axes(known: Vocabulary, rarity: Float) -> Float:
    """Return each text on the latent axes, of length 1 or 0, float64 (n, at most 20)."""
    weighted = (known.present * rarity).toarray()
    length = np.sqrt((weighted**2).sum(axis=1, keepdims=True))
    unit = np.divide(weighted, length, out=np.zeros_like(weighted), where=length > 0)
    # By the smaller of the two squares: exact, and the same on every run.
    values, vectors = np.linalg.eigh(unit @ unit.T)
    top = np.argsort(values)[::-1][:_AXES]
    axes = vectors[:, top] * np.sqrt(np.maximum(values[top], 0.0))
    length = np.sqrt((axes**2).sum(axis=1, keepdims=True))
    return np.asarray(np.divide(axes, length, out=np.zeros_like(axes), where=length > 1e-9))


def _silhouette(apart: Float, codes: NDArray[np.int64]) -> float:
    member = (codes[:, None] == np.unique(codes)).astype(np.float64)  # (n, K)
    if member.shape[1] < 2:
        return -1.0
    sizes, own = member.sum(axis=0), member.astype(np.bool_)
    sums = apart @ member
    inside = np.where(own, sums / np.maximum(sizes - 1, 1), 0.0).sum(axis=1)
    outside = np.where(own, np.inf, sums / sizes).min(axis=1)
    lonely = (own & (sizes == 1)).any(axis=1)
    value = (outside - inside) / np.maximum(np.maximum(inside, outside), 1e-12)
    return float(np.where(lonely, 0.0, value).mean())
