"""Groups of raters: planted ones are found with their priorities, whatever raters and responses are called."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from discretion.metrics.agreement import CONFLICT, states
from discretion.metrics.groups import adjusted_rand
from discretion.metrics.mixture import Mixture, fit_mixture, read_choices
from discretion.metrics.priority import Prior, fit
from discretion.metrics.supremacy import wins


@dataclass(frozen=True)
class Labelled:
    X: np.ndarray
    row: np.ndarray
    y: np.ndarray
    who: np.ndarray
    raters: int
    W: np.ndarray
    group: np.ndarray

    def fit(self, k: int, seed: int = 0, **options: float) -> Mixture:
        return fit_mixture(self.X, self.row, self.y, self.who, self.raters, k, np.random.default_rng(seed), **options)


def drawn(
    rng: np.random.Generator,
    k: int,
    *,
    raters: int = 90,
    each: int = 120,
    n: int = 800,
    p: int = 6,
    spread: float = 1.0,
) -> Labelled:
    X = rng.choice(np.array([1, 0, -1, -128], np.int8), (n, p), p=[0.25, 0.4, 0.25, 0.1])
    W = rng.normal(0, spread, (k, p))
    W -= W.mean(axis=1, keepdims=True)
    group = rng.choice(k, raters, p=np.arange(k + 1, 1, -1) / np.arange(2, k + 2).sum())
    row, who = rng.integers(0, n, raters * each), np.repeat(np.arange(raters), each)
    sides = [(X[row] == side) @ np.exp(W.T) for side in (1, -1)]
    first, second = (side[np.arange(len(row)), group[who]] for side in sides)
    chance = np.divide(first, first + second, out=np.full(len(row), 0.5), where=first + second > 0)
    y = np.where(rng.random(len(row)) < chance, 1, -1).astype(np.int8)
    return Labelled(X, row, y, who, raters, W, group)


def log_posterior(data: Labelled, w: np.ndarray, shares: np.ndarray, sd: float) -> float:
    """Return the logarithm of the posterior, label by label from its definition."""
    state = states(data.X)[0]
    by_rater = np.zeros((data.raters, len(w)))
    for row, y, who in zip(data.row, data.y, data.who, strict=True):
        if state[row] == CONFLICT:
            ours, theirs = data.X[row] == y, data.X[row] == -y
            by_rater[who] -= np.log1p(np.exp(w) @ theirs / (np.exp(w) @ ours))
    return float(np.log(np.exp(by_rater) @ shares).sum() - (w**2).sum() / (2 * sd**2))


def test_planted_groups_are_found_with_their_shares_and_priorities() -> None:
    data = drawn(np.random.default_rng(0), 3)
    found = data.fit(3)
    assert found.converged
    assert adjusted_rand(found.group, data.group) > 0.95
    assert (np.diff(found.shares) <= 0).all()
    assert found.shares.sum() == pytest.approx(1)
    np.testing.assert_allclose(found.responsibilities.sum(axis=1), 1)
    np.testing.assert_allclose(found.shares, found.responsibilities.mean(axis=0), atol=1e-3)
    for k in range(3):
        true = np.bincount(data.group[found.group == k]).argmax()
        assert found.shares[k] == pytest.approx((data.group == true).mean(), abs=0.03)
        np.testing.assert_allclose(found.priorities[k], data.W[true], atol=0.25)
    # Negative control: with the labels dealt out to other raters there are no groups of raters to find.
    dealt = fit_mixture(
        data.X, data.row, data.y, np.random.default_rng(1).permutation(data.who), data.raters, 3,
        np.random.default_rng(0),
    )  # fmt: skip
    assert abs(adjusted_rand(dealt.group, data.group)) < 0.1


def test_priorities_are_as_far_from_the_truth_as_the_information_says() -> None:
    scores = []
    for seed in range(30):
        data = drawn(np.random.default_rng(seed), 1, raters=20, each=50)
        found = data.fit(1, prior=20.0)
        choices = read_choices(data.X, data.row, data.y, data.who, data.raters)
        slopes, p = choices.slopes(data.W[0]), np.exp(choices.chances(data.W)[0])[:, 0]
        labels = np.asarray((choices.first + choices.second).sum(axis=0))
        information = (slopes * (labels * p * (1 - p))[:, None]).T @ slopes
        error = found.priorities[0] - data.W[0]
        scores.append(error @ information @ error / (len(error) - 1))
    # Chi-squared over its degrees of freedom: mean 1, standard error sqrt(2 / (5 * 30)) = 0.12.
    assert 0.65 < np.mean(scores) < 1.35


def test_slopes_are_the_gradient_of_the_log_odds() -> None:
    rng = np.random.default_rng(2)
    data = drawn(rng, 1, raters=5)
    choices = read_choices(data.X, data.row, data.y, data.who, data.raters)
    w, step = rng.normal(0, 1, 6), 1e-5

    def odds(w: np.ndarray) -> np.ndarray:
        first, second = choices.chances(w[None])
        return (first - second)[:, 0]

    numeric = np.stack([(odds(w + step * e) - odds(w - step * e)) / (2 * step) for e in np.eye(6)], axis=1)
    np.testing.assert_allclose(choices.slopes(w), numeric, atol=1e-8)


@pytest.mark.parametrize("k", [1, 2])
def test_no_small_change_makes_the_labels_likelier(k: int) -> None:
    data = drawn(np.random.default_rng(3), k, raters=15, each=60)
    found = data.fit(k)

    def at(w: np.ndarray, first: float) -> float:
        return log_posterior(data, w, np.array([first, 1 - first]) if k == 2 else np.ones(1), found.prior)

    here, share = at(found.priorities, found.shares[0]), found.shares[0]
    assert here + (found.priorities**2).sum() / (2 * found.prior**2) == pytest.approx(found.log_likelihood, abs=1e-6)
    for group in range(k):
        for c in range(6):
            move = np.zeros((k, 6))
            move[group, c] = 1e-4
            slope = (at(found.priorities + move, share) - at(found.priorities - move, share)) / 2e-4
            assert abs(slope) < 0.15
    # Negative control: a tenth of a logit away the slope is not 0.
    away = np.zeros((k, 6))
    away[0, :2] = 0.1, -0.1
    near = away * 1.001
    assert abs(at(found.priorities + near, share) - at(found.priorities + away, share)) / 1e-4 > 0.3


def test_with_one_principle_on_each_side_it_is_bradley_and_terry() -> None:
    rng = np.random.default_rng(4)
    X = np.zeros((300, 5), np.int8)
    for line in X:
        line[rng.choice(5, 2, replace=False)] = 1, -1
    y = np.where(rng.random(300) < 0.5 + 0.2 * X[:, 0], 1, -1).astype(np.int8)
    found = fit_mixture(X, np.arange(300), y, np.zeros(300, int), 1, 1, rng, prior=1.5)
    np.testing.assert_allclose(found.priorities[0], fit(wins(X, y), prior=Prior("gaussian", 1.5)).within, atol=1e-4)


def test_raters_and_responses_have_no_order() -> None:
    data = drawn(np.random.default_rng(5), 2)
    found = data.fit(2)
    order = np.random.default_rng(6).permutation(data.raters)
    moved = fit_mixture(data.X, data.row, data.y, order[data.who], data.raters, 2, np.random.default_rng(7))
    np.testing.assert_allclose(moved.responsibilities[order], found.responsibilities, atol=1e-3)
    other = np.where(data.X == -128, data.X, -data.X).astype(np.int8)
    swapped = fit_mixture(other, data.row, -data.y, data.who, data.raters, 2, np.random.default_rng(0))
    np.testing.assert_allclose(swapped.priorities, found.priorities, atol=1e-9)
    np.testing.assert_allclose(swapped.responsibilities, found.responsibilities, atol=1e-9)
    # Negative control: the labels alone turned round turn the priorities round.
    turned = fit_mixture(data.X, data.row, -data.y, data.who, data.raters, 2, np.random.default_rng(0))
    assert (np.diag(np.corrcoef(turned.priorities, found.priorities)[:2, 2:]) < 0).all()


def test_labels_that_do_not_tell_change_nothing() -> None:
    data = drawn(np.random.default_rng(8), 2, raters=40)
    tells = states(data.X)[0][data.row] == CONFLICT
    found = data.fit(2)
    fewer = fit_mixture(
        data.X, data.row[tells], data.y[tells], data.who[tells], data.raters, 2, np.random.default_rng(0)
    )
    np.testing.assert_array_equal(fewer.responsibilities, found.responsibilities)
    rows, who = np.concatenate([data.row, data.row[:50]]), np.concatenate([data.who, data.who[:50]])
    none = np.concatenate([data.y, np.array([0, -128] * 25, np.int8)])
    more = fit_mixture(data.X, rows, none, who, data.raters, 2, np.random.default_rng(0))
    np.testing.assert_array_equal(more.responsibilities, found.responsibilities)
    np.testing.assert_array_equal(found.informative, np.bincount(data.who[tells], minlength=data.raters))
    assert found.labels.max(axis=1).sum() <= tells.sum() + 1e-6


def test_what_is_never_lost_stays_finite_and_what_is_never_asked_is_unknown() -> None:
    X = np.array([[1, -1, 0, 1, -128], [-1, 1, -1, 0, -128], [-1, 0, 1, 0, 0], [0, 0, 0, 0, 1]], np.int8)
    row = np.array([0, 0, 1, 2, 3])
    y = np.array([1, 1, -1, -1, 1], np.int8)  # the first principle always wins
    found = fit_mixture(X, row, y, np.array([0, 1, 0, 1, 3]), 4, 1, np.random.default_rng(0))
    assert np.isnan(found.priorities[0, 4])
    assert found.labels[0, 4] == 0
    assert found.priorities[0, 0] == np.nanmax(found.priorities)
    assert np.nansum(found.priorities) == pytest.approx(0, abs=1e-9)
    assert found.group.tolist() == [0, 0, -1, -1]
    assert found.informative.tolist() == [2, 2, 0, 0]
    weaker = fit_mixture(X, row, y, np.array([0, 1, 0, 1, 3]), 4, 1, np.random.default_rng(0), prior=20.0)
    assert weaker.priorities[0, 0] > found.priorities[0, 0] + 1


def test_nothing_to_tell_is_nan_and_what_does_not_fit_is_refused() -> None:
    X = np.array([[1, 1], [0, 0]], np.int8)
    empty, rng = np.zeros(0, int), np.random.default_rng(0)
    for row in (empty, np.array([0, 1])):
        found = fit_mixture(X, row, np.ones(len(row), np.int8), np.zeros(len(row), int), 2, 2, rng)
        assert np.isnan(found.shares).all()
        assert np.isnan(found.priorities).all()
        assert np.isnan(found.log_likelihood)
        assert found.group.tolist() == [-1, -1]
        assert not found.converged
    one = np.zeros(1, int)
    with pytest.raises(ValueError, match="row goes from 2 to 2"):
        fit_mixture(X, one + 2, np.ones(1, np.int8), one, 1, 1, rng)
    with pytest.raises(ValueError, match="who goes from 5 to 5"):
        fit_mixture(X, one, np.ones(1, np.int8), one + 5, 1, 1, rng)
    with pytest.raises(ValueError, match="expected one each a label"):
        fit_mixture(X, one, np.ones(2, np.int8), one, 1, 1, rng)
    with pytest.raises(ValueError, match="expected positive"):
        fit_mixture(X, one, np.ones(1, np.int8), one, 1, 0, rng)
