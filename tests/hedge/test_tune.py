"""HedgeTune on pools whose truth is known: where it peaks, how sure it is, and that chance is not called a gain."""

from __future__ import annotations

import numpy as np
import pytest

from discretion.errors import DataError
from discretion.hedge.bands import bands, weights
from discretion.hedge.curves import expected, turning_points
from discretion.hedge.laws import BestOfN, BestOfPoisson, SoftBestOfN, TruncatedPoisson
from discretion.hedge.pool import Pool, best_of_n
from discretion.hedge.tune import Tuned, cross_fitted, tune
from discretion.hedge.verdict import verdict
from discretion.metrics.resampling import percentile_interval

PEAK = (12 / 13) ** 12 / 13


def toy(u):
    return u**12 * (1 - u) / PEAK


def pool_of(g, prompts: int, size: int, seed: int = 0, noise: float = 0.3) -> Pool:
    rng = np.random.default_rng(seed)
    u = rng.random((prompts, size))
    return Pool.of(u, g(u) + noise * rng.normal(size=u.shape))


def tuned(g, prompts: int = 150, size: int = 80, **more) -> Tuned:
    return tune(pool_of(g, prompts, size), **{"soft": False, "replicates": 200, **more})


def test_the_peak_and_the_roots_are_found() -> None:
    found = tuned(toy, 300, 120)
    by_n, poisson, truncated = found.families
    assert 10 <= by_n.theta.value <= 15
    assert by_n.theta.low <= 12.49 <= by_n.theta.high
    assert by_n.determined
    assert by_n.regime == "rise then fall"
    assert found.hacked
    assert by_n.drop.low > 0
    assert by_n.gain.low > 0
    for family, make in ((poisson, BestOfPoisson), (truncated, TruncatedPoisson)):
        (turn,) = [t for t in family.turns if t.kind == "maximum"]
        assert turn.parameter == pytest.approx(turning_points(make, 0.1, 100, toy).parameter[0], rel=0.1)
        assert family.curve.value[family.best] <= by_n.curve.value.max() + 1e-9  # a mixture beats nothing it mixes
        assert turn.value == pytest.approx(family.curve.value.max(), abs=1e-3)
    said = verdict(found, "score")
    assert said.kind == "stop"
    assert said.headline.startswith(f"Stop at n = {by_n.theta.value:.0f}")
    assert any("This is reward hacking" in s for s in said.sentences)
    assert any("random n cannot help" in s for s in said.sentences)


@pytest.mark.parametrize(
    ("g", "regime", "kind"),
    [
        (lambda u: u, "rising", "go on"),
        (lambda u: -u, "falling", "do not select"),
        (lambda u: (u - 0.8) ** 2 * 10, "fall then rise", None),
    ],
)
def test_regimes(g, regime: str, kind: str | None) -> None:
    found = tuned(g)
    assert found.families[0].regime == regime
    assert found.hacked == (regime != "rising")  # what falls from the start is no better
    assert kind is None or verdict(found, "score").kind == kind


@pytest.mark.slow
def test_where_nothing_is_to_be_had_nothing_is_claimed() -> None:
    claims = 0
    for seed in range(20):
        found = tune(pool_of(lambda u: 0 * u, 40, 30, seed), soft=False, replicates=100, seed=seed)
        claims += found.families[0].gain.low > 0
        claims += found.hacked
        # Negative control: in sample the best of many curves is always a gain.
        assert found.families[0].curve.value.max() >= found.families[0].curve.value[0]
    assert claims <= 4


def test_a_place_that_the_data_do_not_determine_is_not_named() -> None:
    found = tune(pool_of(lambda u: 0 * u, 25, 60, 5), soft=False, replicates=300)
    said = verdict(found, "score")
    if said.kind in ("stop", "undetermined"):
        assert said.kind == "undetermined"
        assert "do not determine" in said.headline
    assert not found.families[0].determined


@pytest.mark.slow
def test_soft_best_of_n_is_tuned_over_both() -> None:
    found = tune(pool_of(toy, 60, 40), replicates=50)
    soft = found.families[-1]
    assert soft.name == "soft best of n"
    assert soft.n > 1
    assert soft.curve.value.max() >= found.families[0].curve.value.max() - 0.02
    assert np.isinf(soft.parameter[-1])
    np.testing.assert_allclose(soft.curve.value[-1], best_of_n(pool_of(toy, 60, 40), [soft.n]).mean(), atol=1e-9)


def test_alternatives_and_losers() -> None:
    found = tuned(toy, 200, 80)
    by_name = {a.name: a.reward.value for a in found.alternatives}
    assert by_name["best rank"] > found.families[0].curve.value.max()
    assert by_name["recalibrated proxy"] > by_name["largest n"]
    assert any("recalibrate the proxy" in s for s in verdict(found, "score").sentences)
    assert len(found.losers) == 200
    assert found.lose.value == pytest.approx((found.losers < 0).mean())
    again = tuned(toy, 200, 80, recalibrate=True)
    assert again.families[0].curve.value[-1] > found.families[0].curve.value[-1]
    assert tuned(toy, 200, 80).families[0].gain == found.families[0].gain  # the same seed, the same figures


@pytest.mark.slow
def test_ties_at_the_top_lower_the_divergence() -> None:
    rng = np.random.default_rng(0)
    u = rng.random((40, 50))
    tied = tune(Pool.of(np.minimum(u, 0.7), u), soft=False, replicates=0).families[0]
    plain = tune(Pool.of(u, u), soft=False, replicates=0).families[0]
    assert tied.kl[-1] < plain.kl[-1]
    assert plain.kl[-1] == pytest.approx(BestOfN(25).kl())
    assert np.isnan(tied.theta.low)


def test_what_cannot_be_tuned_is_refused() -> None:
    with pytest.raises(DataError, match="prompt"):
        tune(Pool.of([[1.0, 2.0]], [[1.0, 2.0]]))
    with pytest.raises(DataError, match="one candidate"):
        tune(Pool.of([[1.0], [2.0]], [[1.0], [2.0]]))
    with pytest.raises(DataError, match="smallest pool"):
        tune(pool_of(toy, 5, 10), most=11)
    assert tune(Pool.of([[1.0] * 4] * 3, [[0.0, 1.0, 2.0, 3.0]] * 3), replicates=20).families[0].regime == "flat"


@pytest.mark.slow
def test_intervals_cover() -> None:
    """f between 93 and 97 %, theta* 90 % or more, the simultaneous band as f; 400 pools of 60 prompts."""
    n = np.arange(1, 31)
    truth = expected(BestOfN(n), toy)
    star = n[np.argmax(truth)]
    points, whole, thetas, runs = np.zeros(len(n)), 0, 0, 400
    narrow = 0
    for seed in range(runs):
        rng = np.random.default_rng(1000 + seed)
        u = rng.random((60, 40))
        own = rng.normal(1.0, 0.4, (60, 1))  # prompts differ
        values = best_of_n(Pool.of(u, own * toy(u) + 0.2 * rng.normal(size=u.shape)), n)
        found = bands(values, weights(rng, 300, 60))
        points += (found.low <= truth) & (truth <= found.high)
        whole += bool(((found.band_low <= truth) & (truth <= found.band_high)).all())
        low, high = percentile_interval(n[np.argmax(found.replicates, axis=1)].astype(float)[:, None])
        thetas += low[0] <= star <= high[0]
        narrow += bool(((found.low <= truth) & (truth <= found.high)).all())
    assert 0.93 <= (points / runs).mean() <= 0.97
    assert 0.92 <= whole / runs <= 0.99
    assert thetas / runs >= 0.90
    assert narrow / runs < whole / runs  # negative control: pointwise intervals do not hold the curve


def test_cross_fitting_is_out_of_sample() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(200, 30))
    halves = np.stack([rng.permutation(200) < 100 for _ in range(30)])
    gain, _ = cross_fitted(values, halves)
    assert abs(gain.value) < 0.15
    assert values.mean(axis=0).max() - values.mean(axis=0)[0] > gain.value


@pytest.mark.slow
def test_soft_best_of_n_turns_where_its_law_does() -> None:
    found = tune(pool_of(toy, 200, 60, noise=0.0), most=16, replicates=0).families[-1]
    (turn,) = [t for t in found.turns if t.kind == "maximum"]
    assert 12 <= found.n <= 16
    exact = turning_points(lambda lam: SoftBestOfN(found.n, lam), 2.0, 100.0, toy).parameter[0]
    assert turn.parameter == pytest.approx(exact, rel=0.25)  # quantiles of 60 candidates are not yet those of all
    assert turn.value >= found.curve.value.max() - 1e-9
