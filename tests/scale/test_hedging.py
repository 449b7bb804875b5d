"""Curves on a cluster are those of one process, whatever the pieces and the nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from discretion.errors import DataError
from discretion.hedge.pool import Pool, best_of_n

from .conftest import nodes

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def ragged() -> Pool:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 40, 60)
    prompts = np.repeat(np.arange(60), sizes)
    return Pool.of(rng.integers(0, 9, len(prompts)).astype(float), rng.normal(size=len(prompts)), prompts)


def test_pieces_hold_every_prompt_once() -> None:
    from discretion.scale.hedging import pieces_of

    pool = ragged()
    for piece in (1, 7, 100, 10**6):
        parts = pieces_of(pool, piece)
        assert [name for part in parts for name in part.names] == list(pool.names)
        assert np.concatenate([part.proxy for part in parts]).tolist() == pool.proxy.tolist()
        assert all(part.starts[0] == 0 and part.starts[-1] == len(part.proxy) for part in parts)
        assert all(part.prompts == 1 or len(part.proxy) <= piece for part in parts)


def test_curves_are_those_of_one_process(cluster: Any) -> None:
    from discretion.scale.hedging import curves_on_ray

    pool, ns = ragged(), [1, 2, 3, 8, 30]
    done: list[float] = []
    alone = curves_on_ray(pool, ns, piece=100, report=done.append)
    np.testing.assert_allclose(alone, best_of_n(pool, ns), rtol=0, atol=1e-13)
    assert done[-1] == 1
    with nodes(cluster, 1):
        np.testing.assert_array_equal(curves_on_ray(pool, ns, piece=100), alone)
    with pytest.raises(DataError, match="piece"):
        curves_on_ray(pool, ns, piece=0)
