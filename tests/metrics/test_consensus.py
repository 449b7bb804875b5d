from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discretion.metrics.consensus import dawid_skene, fit_truth, majority
from tests.strategies import votes

ERRORS = np.array(
    [
        [[0.9, 0.07, 0.03], [0.1, 0.8, 0.1], [0.02, 0.08, 0.9]],
        [[0.7, 0.2, 0.1], [0.05, 0.9, 0.05], [0.1, 0.2, 0.7]],
        [[0.6, 0.3, 0.1], [0.1, 0.7, 0.2], [0.05, 0.15, 0.8]],
        [[0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.1, 0.1, 0.8]],
    ]
)


def said(rng: np.random.Generator, truth: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """What an oracle with these errors, (3, 3) or (P, 3, 3), says of the truth."""
    errors = np.broadcast_to(errors, (truth.shape[1], 3, 3))
    chances = errors[np.arange(truth.shape[1]), truth + 1].cumsum(axis=-1)
    return ((rng.random((*truth.shape, 1)) > chances).sum(axis=-1) - 1).astype(np.int8)


def world(seed: int, n: int, p: int = 3, oracles: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.choice([-1, 0, 1], (n, p), p=[0.2, 0.5, 0.3]).astype(np.int8)
    return truth, np.stack([said(rng, truth, ERRORS[r]) for r in range(oracles)])


def simple_dawid_skene(v, known, steps, prior):
    """The algorithm of the paper in loops, for one principle: v, known (R, N)."""
    r, n = v.shape
    z = np.array([[sum(known[o, i] and v[o, i] == c for o in range(r)) for c in (-1, 0, 1)] for i in range(n)], float)
    z /= z.sum(axis=1, keepdims=True)
    trace = []
    for _ in range(steps):
        classes = z.sum(axis=0) + prior
        classes /= classes.sum()
        errors = np.full((r, 3, 3), float(prior))
        for o in range(r):
            for i in np.flatnonzero(known[o]):
                errors[o, :, v[o, i] + 1] += z[i]
        errors /= errors.sum(axis=2, keepdims=True)
        likelihood = np.array(
            [classes * np.prod([errors[o, :, v[o, i] + 1] for o in range(r) if known[o, i]], axis=0) for i in range(n)]
        )
        z = likelihood / likelihood.sum(axis=1, keepdims=True)
        trace.append(np.log(likelihood.sum(axis=1)).sum())
    return z, errors, classes, trace


@pytest.mark.parametrize(
    ("said_by", "vote", "share"),
    [
        ([1, 1, -1], 1, 2 / 3),
        ([1, -1], 0, 0),
        ([1, 0], 0, 1 / 2),
        ([0, 0, 1], 0, 2 / 3),
        ([1, 1, 0, 0], 0, 1 / 2),
        ([1, 1, -1, -1, 0], 0, 1 / 5),
        ([-1, -128, -128], -1, 1),
        ([-1], -1, 1),
    ],
)
def test_plurality_with_ties_to_indifference(said_by, vote, share):
    v = np.array(said_by, np.int8).reshape(-1, 1, 1)
    found = majority(v, v != -128)
    assert found.votes[0, 0] == vote
    assert found.share[0, 0] == pytest.approx(share)
    assert found.n[0, 0] == (v != -128).sum()


def test_what_nobody_judged_has_no_consensus():
    v = np.full((3, 2, 1), -128, np.int8)
    v[0, 0] = 1
    found = majority(v, v != -128)
    assert found.known.tolist() == [[True], [False]]
    assert np.isnan(found.share[1, 0])
    fit = dawid_skene(v, v != -128)
    assert fit.known.tolist() == [[True], [False]]
    assert np.isnan(fit.posterior[1]).all()
    assert fit.votes[1, 0] == 0


@given(votes(3, 6, 2), st.permutations(range(3)))
def test_majority_turns_with_the_sides_and_forgets_the_order_of_oracles(v, order):
    known = v != -128
    found = majority(v, known)
    np.testing.assert_array_equal(majority(-v * known, known).votes, -found.votes)
    np.testing.assert_array_equal(majority(v[order], known[order]).votes, found.votes)


@pytest.mark.parametrize("prior", [0.0, 1.0])
def test_equals_a_plain_implementation(prior):
    _, v = world(1, 60, p=1)
    known = np.random.default_rng(2).random(v.shape) < 0.8
    known[0] |= ~known.any(axis=0)
    z, errors, classes, trace = simple_dawid_skene(v[:, :, 0], known[:, :, 0], 12, prior)
    found = dawid_skene(v, known, iterations=12, tolerance=-np.inf, prior=prior)
    np.testing.assert_allclose(found.posterior[:, 0], z, atol=1e-12)
    np.testing.assert_allclose(found.confusion, errors, atol=1e-12)
    np.testing.assert_allclose(found.class_prior[0], classes, atol=1e-12)
    assert found.log_likelihood == pytest.approx(trace[-1])
    assert found.iterations == 12


def test_per_oracle_and_principle_is_a_fit_for_each_principle():
    _, v = world(3, 400)
    settings_ = {"iterations": 20, "tolerance": -np.inf}
    whole = dawid_skene(v, per="oracle and principle", **settings_)
    for c in range(3):
        alone = dawid_skene(v[:, :, [c]], **settings_)
        np.testing.assert_allclose(whole.posterior[:, [c]], alone.posterior, atol=1e-12)
        np.testing.assert_allclose(whole.confusion[:, c], alone.confusion, atol=1e-12)


@pytest.mark.parametrize("per", ["oracle", "oracle and principle"])
def test_finds_the_planted_errors_and_beats_the_majority(per):
    truth, v = world(0, 20_000)
    found = dawid_skene(v, per=per)
    assert found.converged
    planted = ERRORS if per == "oracle" else ERRORS[:, None]
    assert np.abs(found.confusion - planted).max() < 0.04
    assert np.abs(found.class_prior - [0.2, 0.5, 0.3]).max() < 0.03
    assert (found.votes == truth).mean() > (majority(v).votes == truth).mean() + 0.005
    # Calibrated: what it gives 80 to 90 % is true as often.
    some = (found.posterior > 0.8) & (found.posterior < 0.9)
    right = np.stack([truth == c for c in (-1, 0, 1)], axis=-1)[some].mean()
    assert right == pytest.approx(found.posterior[some].mean(), abs=0.02)


def test_copies_of_one_oracle_make_it_overconfident():
    # The negative control of the calibration above: errors that are not independent.
    rng = np.random.default_rng(1)
    truth, v = world(0, 5000)
    noise = said(rng, truth, ERRORS[2])
    found = dawid_skene(np.stack([noise, noise, noise, v[1]]))
    some = found.posterior > 0.95
    right = np.stack([truth == c for c in (-1, 0, 1)], axis=-1)[some].mean()
    assert right < found.posterior[some].mean() - 0.1


@given(votes(3, 12, 2), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from(["oracle", "oracle and principle"]))
def test_every_step_rises(v, prior, per):
    known = v != -128
    found = dawid_skene(v, known, per=per, prior=prior, iterations=60)
    assert (np.diff(found.trace) > -1e-7).all()
    sums = found.posterior.sum(axis=-1)
    np.testing.assert_allclose(sums[known.any(axis=0)], 1.0)
    assert np.isnan(sums[~known.any(axis=0)]).all()


def test_the_order_of_the_oracles_and_the_sides_do_not_matter():
    _, v = world(5, 300)
    found = dawid_skene(v)
    for order in list(permutations(range(4)))[1::7]:
        moved = dawid_skene(v[list(order)])
        np.testing.assert_allclose(moved.posterior, found.posterior, atol=1e-6)
        np.testing.assert_allclose(moved.confusion, found.confusion[list(order)], atol=1e-6)
    turned = dawid_skene(-v)
    np.testing.assert_allclose(turned.posterior[..., ::-1], found.posterior, atol=1e-6)


def test_more_oracles_than_fit_a_word():
    rng = np.random.default_rng(0)
    truth = rng.choice([-1, 0, 1], (50, 2)).astype(np.int8)
    v = np.stack([said(rng, truth, ERRORS[1]) for _ in range(40)])
    np.testing.assert_array_equal(dawid_skene(v).votes, truth)


def test_settings_that_cannot_be():
    v = np.zeros((2, 3, 1), np.int8)
    with pytest.raises(ValueError, match="two oracles or more"):
        dawid_skene(v[:1])
    with pytest.raises(ValueError, match="cannot be used"):
        dawid_skene(v, prior=-1.0)
    with pytest.raises(ValueError, match="a known vote is -128"):
        majority(np.full((2, 3, 1), -128, np.int8))


def test_fitted_truth_with_one_class_is_bayes_rule_where_the_model_holds():
    rng = np.random.default_rng(0)
    truth = rng.choice([-1, 0, 1], (40_000, 2), p=[0.2, 0.5, 0.3]).astype(np.int8)
    v = said(rng, truth, ERRORS[1])
    y = np.ones(len(v), np.int8)
    found = fit_truth(v, y, ERRORS[1], classes=1)
    bayes = np.array([0.2, 0.5, 0.3])[:, None] * ERRORS[1]
    bayes /= bayes.sum(axis=0)
    for vote in (-1, 0, 1):
        np.testing.assert_allclose(found.posterior[v[:, 0] == vote, 0][0], bayes[:, vote + 1], atol=0.02)
    no_minus, zero = 1 - found.posterior[..., 0], found.posterior[..., 1]
    np.testing.assert_allclose(found.consensus[:, 0], no_minus.prod(axis=1) - zero.prod(axis=1), atol=1e-10)


def test_fitted_truth_of_an_oracle_without_errors_is_what_it_says():
    truth, _ = world(0, 500)
    y = np.random.default_rng(0).choice([-1, 0, 1], 500).astype(np.int8)
    found = fit_truth(truth, y, np.eye(3))
    asked = y != 0
    np.testing.assert_allclose(found.posterior[asked], np.eye(3)[truth[asked] + 1], atol=1e-9)
    assert np.isnan(found.consensus[~asked]).all()
    with pytest.raises(ValueError, match="row known"):
        fit_truth(truth, y, np.eye(3)[:2])
