"""Soft discretion: its hard limits are the audit's figures, and its slopes are true."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from discretion.errors import DataError
from discretion.metrics.arbitrariness import arbitrariness
from discretion.metrics.discrepancy import discrepancy
from discretion.metrics.priority import Prior, fit
from discretion.metrics.supremacy import wins

from ..strategies import judged
from .annotator import P, audited, margins_for, slope

torch = pytest.importorskip("torch")

from discretion.training.hierarchy import priorities, soft_arbitrariness, soft_kendall, soft_supremacy  # noqa: E402


@settings(max_examples=60)
@given(judged(principles=6))
def test_hard_choices_give_the_metrics(case: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = case
    y = np.where(y == 1, 1, -1).astype(np.int8)
    p, votes = torch.tensor(y == 1).double(), torch.tensor(X)
    weights = np.arange(1.0, len(y) + 1)
    np.testing.assert_array_equal(soft_supremacy(p, votes).numpy(), wins(X, y))
    np.testing.assert_allclose(soft_supremacy(p, votes, torch.tensor(weights)).numpy(), wins(X, y, weights))
    for at_least in (1, 2):
        found = soft_arbitrariness(p, votes, torch.tensor(weights), at_least=at_least)
        np.testing.assert_allclose(found, arbitrariness(X, y, weights, at_least=at_least))


@pytest.mark.parametrize("method", ["implicit", "unrolled"])
@pytest.mark.parametrize("scale", [0.5, 3.0, 30.0])
def test_priorities_are_those_of_the_audit_under_the_same_prior(method: str, scale: float) -> None:
    rng = np.random.default_rng(0)
    W = rng.poisson(1.0, (20, 6, 6)).astype(float)
    W[:5, 0] = W[:5, :, 0] = 0.0  # a principle in no game
    expected = fit(W * (1 - np.eye(6)), prior=Prior("gaussian", scale))
    found = priorities(torch.tensor(W), scale=scale, method=method)
    np.testing.assert_allclose(found, expected.within, atol=1e-9)
    single = priorities(torch.tensor(W).float(), scale=scale, method=method)
    np.testing.assert_allclose(single, expected.within, atol=1e-3 * scale)


def test_many_games_stay_accurate_in_single_precision() -> None:
    w = np.linspace(4, -4, 8)
    W = 1e5 / (1 + np.exp(w[None, :] - w[:, None])) * (1 - np.eye(8))
    np.testing.assert_allclose(priorities(torch.tensor(W).float(), scale=100.0), w, atol=1e-3)


def test_soft_kendall_tends_to_the_discrepancy() -> None:
    rng = np.random.default_rng(2)
    prior = Prior("gaussian", 3.0)
    for _ in range(20):
        a, b = (fit(rng.poisson(3.0, (P, P)) * (1.0 - np.eye(P)), prior=prior) for _ in range(2))
        w, reference = torch.tensor(a.logits), torch.tensor(b.logits)
        exact, pairs = discrepancy(a, b)
        soft, rests = soft_kendall(w, reference, 1e-6)
        assert float(soft) == pytest.approx(float(exact), abs=1e-6)
        assert float(rests) == pairs
    far = abs(float(soft_kendall(w, reference, 10.0)[0]) - 0.5)
    assert far < 0.1  # softened enough every pair is undecided


def test_tied_and_unknown_pairs_are_left_out_and_counted() -> None:
    w = torch.tensor([[2.0, 1.0, 0.0, -1.0], [2.0, torch.nan, 0.0, -1.0]], requires_grad=True)
    reference = torch.tensor([torch.inf, 1.0, 1.0, torch.nan])
    distance, pairs = soft_kendall(w, reference, 1e-3)
    assert pairs.tolist() == [2.0, 1.0]
    assert distance.tolist() == [0.0, 0.0]
    nothing, none = soft_kendall(w, torch.tensor([torch.inf, torch.inf, torch.nan, torch.nan]), 1.0)
    assert none.tolist() == [0.0, 0.0]
    assert torch.isnan(nothing).all()
    assert slope(nothing.sum(), w).abs().sum() == 0


@pytest.mark.parametrize("method", ["implicit", "unrolled"])
def test_slopes_agree_with_finite_differences(method: str) -> None:
    X, _, _, priority = audited(60)
    votes, w = torch.tensor(X), torch.tensor(priority.logits)

    def distance(m: torch.Tensor) -> torch.Tensor:
        return soft_kendall(priorities(soft_supremacy(torch.sigmoid(m), votes), method=method), w, 0.5)[0]

    assert torch.autograd.gradcheck(distance, margins_for(60))
    assert torch.autograd.gradcheck(lambda m: soft_arbitrariness(torch.sigmoid(m), votes)[0], margins_for(60))


def test_the_slope_of_priorities_agrees_with_finite_differences_and_between_methods() -> None:
    W = (torch.rand(3, P, P, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 4).requires_grad_()
    upstream = torch.randn(3, P, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.autograd.gradcheck(priorities, W)
    implicit = slope((priorities(W) * upstream).sum(), W)
    unrolled = slope((priorities(W, method="unrolled") * upstream).sum(), W)
    torch.testing.assert_close(implicit, unrolled)
    short = slope((priorities(W, method="unrolled", steps=1) * upstream).sum(), W)
    assert (short - implicit).abs().max() > 1e-3  # negative control: before it converges it is another function


def test_shapes_and_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="square"):
        priorities(torch.zeros(2, 3))
    with pytest.raises(DataError, match="guess"):
        priorities(torch.zeros(3, 3), method="guess")
    with pytest.raises(DataError, match="scale"):
        priorities(torch.zeros(3, 3), scale=0.0)
    with pytest.raises(DataError, match="tau"):
        soft_kendall(torch.zeros(3), torch.zeros(3), 0.0)
    with pytest.raises(DataError, match="go together"):
        soft_kendall(torch.zeros(3), torch.zeros(4), 1.0)
    with pytest.raises(DataError, match="go together"):
        soft_supremacy(torch.zeros(3), torch.zeros(4, 2, dtype=torch.int8))
