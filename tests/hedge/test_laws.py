from __future__ import annotations

import itertools
import math

import mpmath as mp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from discretion.errors import DataError
from discretion.hedge.curves import expected, frontier, parameter_for_mean, slope, turning_points
from discretion.hedge.law import Law
from discretion.hedge.laws import BestOfN, BestOfPoisson, SoftBestOfN, Tilt, TruncatedPoisson

pytestmark = pytest.mark.slow
PEAK = (12 / 13) ** 12 / 13
LEGENDRE, WEIGHTS = np.polynomial.legendre.leggauss(60)
LEGENDRE, WEIGHTS = (LEGENDRE + 1) / 2, WEIGHTS / 2

LAWS = [
    BestOfN(1),
    BestOfN(2.5),
    BestOfN(40),
    SoftBestOfN(1, 3.0),
    SoftBestOfN(2, 0.3),
    SoftBestOfN(7, 0.99),
    SoftBestOfN(7, 1.0),
    SoftBestOfN(16, 26.12),
    SoftBestOfN(5, np.inf),
    BestOfPoisson(0),
    BestOfPoisson(3.4),
    BestOfPoisson(60),
    Tilt(0),
    Tilt(0.7),
    Tilt(45),
    TruncatedPoisson(6),
]


def at(law: Law) -> str:
    return law.label


def toy(u):
    """The toy of arXiv 2506.19248's setting: a true reward that the proxy follows up to u = 12/13."""
    return u**12 * (1 - u) / PEAK


def with_atom(law: Law, atom: float) -> Law:
    given = {name: getattr(law, name) for name in ("n", "lam", "mu") if hasattr(law, name)}
    return type(law)(**given, atom=atom)


def pieces(function, edges):
    """Integrate with 60 Gauss-Legendre nodes in each piece."""
    total = 0.0
    for low, high in itertools.pairwise(edges):
        total += (high - low) * (WEIGHTS * function(low + (high - low) * LEGENDRE)).sum()
    return total


EDGES = [0, 0.01, 0.05, 0.2, 0.4, 0.6, 0.8, 0.9, 0.97, 1]


# --- published figures -----------------------------------------------------------------------------------------


def test_best_of_n_turns_at_the_root_of_156():
    found = turning_points(BestOfN, 1, 1e4, toy)
    assert found.parameter[0] == pytest.approx(math.sqrt(156), rel=1e-10)
    assert (found.kind, found.regime) == (("maximum",), "rise then fall")
    np.testing.assert_allclose(expected(BestOfN([12, 13]), toy).round(4), 0.6794)
    n = np.arange(1, 40)
    exact = (n / (n + 12) - n / (n + 13)) / PEAK
    np.testing.assert_allclose(expected(BestOfN(n), toy), exact, rtol=1e-12)


@pytest.mark.parametrize(
    ("family", "parameter", "f"), [(BestOfPoisson, 12.400, 0.6669), (TruncatedPoisson, 13.529, 0.6658)]
)
def test_the_turn_of_a_random_n(family, parameter, f):
    found = turning_points(family, 0, 1e4, toy)
    assert found.regime == "rise then fall"
    assert found.parameter.round(3) == parameter
    assert found.f.round(4) == f


@pytest.mark.parametrize(
    ("n", "lam", "digits", "f"),
    [
        (4, 136, 0, 0.4996),
        (8, 50.4, 1, 0.6495),
        (16, 26.12, 2, 0.7000),
        (32, 17.67, 2, 0.6873),
        (64, 15.05, 2, 0.6754),
        (128, 14.18, 2, 0.6702),
        (17, 25, 0, 0.7001),
    ],
)
def test_the_turn_of_soft_best_of_n(n, lam, digits, f):
    found = turning_points(lambda at: SoftBestOfN(n, at), 0.6 * lam, 2 * lam, toy, scan=6)
    assert found.kind == ("maximum",)
    assert found.parameter.round(digits) == lam
    assert found.f.round(4) == f


def test_seventeen_is_the_best_pool_of_soft_best_of_n():
    best = [
        -scipy.optimize.minimize_scalar(
            lambda lam, n=n: -float(expected(SoftBestOfN(n, lam), toy)), bounds=(20, 30), method="bounded"
        ).fun
        for n in (15, 16, 17, 18, 19)
    ]
    assert np.argmax(best) == 2


def test_the_gaps_to_the_tilt_at_equal_mean():
    def gap(law):
        return float(law.kl() - Tilt(parameter_for_mean(Tilt, float(law.mean()))).kl())

    worst = scipy.optimize.minimize_scalar(lambda mu: -gap(BestOfPoisson(mu)), bounds=(1, 9), method="bounded")
    assert -worst.fun == pytest.approx(6.7508e-4, abs=5e-9)
    assert worst.x == pytest.approx(3.358, abs=5e-4)
    assert BestOfPoisson(worst.x).mean() == pytest.approx(0.7878, abs=5e-5)
    assert parameter_for_mean(Tilt, 0.7878) == pytest.approx(4.468, abs=5e-4)
    gaps = [gap(BestOfN(n)) for n in range(1, 12)]
    assert np.argmax(gaps) + 1 == 3
    assert max(gaps) == pytest.approx(0.0233, abs=5e-5)


def test_a_truncated_poisson_number_is_the_tilt_for_more_draws():
    for mean, poisson, truncated in [(0.8, 4.67, 4.84), (0.9, 9.87, 10.00)]:
        assert BestOfPoisson(parameter_for_mean(BestOfPoisson, mean)).expected_draws().round(2) == poisson
        law = TruncatedPoisson(parameter_for_mean(TruncatedPoisson, mean))
        assert law.expected_draws().round(2) == truncated
        assert law.kl() == Tilt(law.lam).kl()


@given(st.floats(0.01, 30), st.floats(0, 1))
def test_random_numbers_are_mixtures_of_best_of_n(rate, u):
    n = np.arange(1, 200)
    best = BestOfN(n).density(u)
    truncated = scipy.stats.poisson.pmf(n, rate) / -np.expm1(-rate)
    assert TruncatedPoisson(rate).density(u) == pytest.approx(truncated @ best, rel=1e-11, abs=1e-300)
    assert TruncatedPoisson(rate).expected_draws() == pytest.approx(truncated @ n, rel=1e-12)
    assert BestOfPoisson(rate).density(u) == pytest.approx(scipy.stats.poisson.pmf(n - 1, rate) @ best, rel=1e-11)


# --- soft best-of-n against what it is by definition -----------------------------------------------------------


@pytest.mark.parametrize("lam", [1e-12, 1e-4, 0.4, 0.9999, 1.0, 3.0, 40.0, 1e3, 1e4])
def test_a_pool_of_two_has_a_closed_form(lam):
    with mp.workdps(60):
        L = mp.mpf(lam)

        def exact(u):  # 2 E 1 / (1 + exp(lam (V - u)))
            return 2 * (1 - (mp.log1p(mp.exp(L * (1 - u))) - mp.log1p(mp.exp(-L * u))) / L)

        law = SoftBestOfN(2, lam)
        for u in (0.0, 1e-6, 0.1, 0.5, 0.9, 1.0):
            assert abs(law.density(u) / exact(mp.mpf(u)) - 1) < 1e-12
            # the log is good relative to lam: the divergence needs it, and is of order lam squared
            assert abs(law.log_density(u) - mp.log(exact(mp.mpf(u)))) < 1e-12 * min(lam, 1.0)


@pytest.mark.parametrize(("n", "lam"), [(5, 1e-6), (50, 0.99), (17, 25.0), (10**6, 3.0), (10**6, 30.0), (60, 300.0)])
def test_the_density_is_the_integral_of_the_spec(n, lam):
    with mp.workdps(25):
        L = mp.mpf(lam)

        def phi(s):
            if lam < 0.01:
                return mp.quad(lambda v: mp.exp(-s * mp.exp(-L * v)), [0, 1])
            return (mp.e1(s * mp.exp(-L)) - mp.e1(s)) / L

        step = mp.mpf(1) / 5
        low = int((-mp.log(n) - 35) / step)
        high = int((L + 4) / step) if lam < 50 else int((L / 5 + 4) / step)  # x <= 1/5 below where lam is large
        table = [(k * step, phi(mp.exp(k * step)) ** (n - 1)) for k in range(low, high + 1)]
        for u in (0.0, 0.5, 0.999) if lam < 50 else (0.85, 0.999):
            x = 1 - mp.mpf(u)
            exact = n * step * mp.fsum(mp.exp(y - L * x - mp.exp(y - L * x)) * p for y, p in table)
            assert abs(SoftBestOfN(n, lam).density(u) / exact - 1) < 1e-10


@pytest.mark.parametrize("lam", [0.5, 4.0, 25.0])
def test_the_slope_is_the_covariance_inside_pools_and_not_the_marginal_one(lam):
    u, v = LEGENDRE[:, None], LEGENDRE[None, :]
    weight = WEIGHTS[:, None] * WEIGHTS[None, :]
    chosen = 1 / (1 + np.exp(lam * (v - u)))
    inside = (weight * chosen * (1 - chosen) * (toy(u) - toy(v)) * (u - v)).sum()
    law = SoftBestOfN(2, lam)
    assert slope(law, toy) == pytest.approx(inside, abs=1e-9)
    marginal = expected(law, lambda at: toy(at) * at) - expected(law, toy) * law.mean()
    assert abs(slope(law, toy) - marginal) > 1e-3


def test_a_pool_of_three_by_enumeration_over_a_grid_of_pools():
    lam = 6.0
    u, v, w = LEGENDRE[:, None, None], LEGENDRE[None, :, None], LEGENDRE[None, None, :]
    share = np.exp(lam * u) / (np.exp(lam * u) + np.exp(lam * v) + np.exp(lam * w))
    weight = WEIGHTS[:, None, None] * WEIGHTS[None, :, None] * WEIGHTS[None, None, :]
    assert expected(SoftBestOfN(3, lam), toy) == pytest.approx(3 * (weight * share * toy(u)).sum(), rel=1e-11)


def test_limits_of_the_inverse_temperature():
    u = np.linspace(0, 1, 41)
    for n in (1, 4, 300, 10**6):
        np.testing.assert_array_equal(SoftBestOfN(n, 0).density(u), 1.0)
        np.testing.assert_array_equal(SoftBestOfN(n, np.inf).density(u), BestOfN(n).density(u))
        np.testing.assert_array_equal(SoftBestOfN(n, np.inf).cdf(u), BestOfN(n).cdf(u))
        assert SoftBestOfN(n, np.inf).kl() == BestOfN(n).kl()
        assert SoftBestOfN(n, 1e-9).kl() == pytest.approx(((n - 1) / n) ** 2 * 1e-18 / 24, rel=1e-8)
    assert SoftBestOfN(3, 1e6).mean() == pytest.approx(0.75, abs=1e-9)
    # with many candidates at hand, soft best-of-n draws from the tilt itself
    np.testing.assert_allclose(SoftBestOfN(10**6, 5.0).density(u), Tilt(5.0).density(u), rtol=1e-4)
    for law in (BestOfN(1), Tilt(0), TruncatedPoisson(0), BestOfPoisson(0)):
        np.testing.assert_array_equal(law.density(u), 1.0)
        np.testing.assert_allclose(law.cdf(u), u, rtol=1e-15)
        np.testing.assert_allclose(law.quantile(u), u, rtol=1e-13)
        assert law.mean() == pytest.approx(0.5, rel=1e-14)
        assert law.kl() == pytest.approx(0, abs=1e-30)
    assert BestOfPoisson(0).expected_draws() == TruncatedPoisson(0).expected_draws() == 1.0
    assert np.isnan(Tilt(3).expected_draws())


# --- accuracy over the whole range of parameters ---------------------------------------------------------------

RATES = [1e-12, 1e-8, 1e-4, 0.1, 0.499, 0.5, 0.999, 1.0, 4.0, 30.0, 499.0, 501.0, 1e3, 1e4]
PLACES = [0.0, 1e-9, 0.3, 0.5, 0.9, 1 - 1e-6, 1.0]


def close(found, exact, rel=1e-10):
    # where the density underflows there is nothing to compare
    return abs(exact) < 1e-290 or abs(float(found) / exact - 1) < rel


@pytest.mark.parametrize("rate", RATES)
def test_the_tilt_to_ten_digits(rate):
    with mp.workdps(60):
        lam = mp.mpf(rate)
        mean = -1 / mp.expm1(-lam) - 1 / lam
        law = TruncatedPoisson(rate)
        assert close(law.mean(), mean)
        assert close(1 - law.mean(), 1 - mean)
        assert close(law.kl(), lam * mean - mp.log(mp.expm1(lam) / lam))
        assert close(law.expected_draws(), -lam / mp.expm1(-lam))
        for u in PLACES:
            exact = lam * mp.exp(lam * mp.mpf(u)) / mp.expm1(lam)
            assert close(law.density(u), exact)
            assert close(law.cdf(u), mp.expm1(lam * mp.mpf(u)) / mp.expm1(lam)) or u == 0
            assert abs(law.score(u) - (mp.mpf(u) - mean)) < 1e-15
            assert u == 0 or close(law.quantile(u), mp.log1p(mp.mpf(u) * mp.expm1(lam)) / lam)


@pytest.mark.parametrize("rate", RATES)
def test_best_of_poisson_to_ten_digits(rate):
    with mp.workdps(100):
        mu = mp.mpf(rate)
        mean = 1 - (mu - 1 + mp.exp(-mu)) / mu**2
        law = BestOfPoisson(rate)
        assert close(law.mean(), mean)
        assert close(1 - law.mean(), 1 - mean)
        assert close(law.kl(), mp.log1p(mu) - 1 + mp.exp(-1 - mu) * (mp.ei(1 + mu) - mp.ei(1)) / mu)
        for u in PLACES:
            v = mp.mpf(u)
            assert close(law.density(u), (1 + mu * v) * mp.exp(mu * (v - 1)))
            assert close(law.cdf(u), v * mp.exp(mu * (v - 1)))
            assert u == 0 or close(law.quantile(u), mp.lambertw(mu * v * mp.exp(mu)).real / mu)
            assert abs(law.score(u) - (v / (1 + mu * v) + v - 1)) < 1e-15


@pytest.mark.parametrize("n", [1.0, 1 + 1e-9, 1.001, 2.0, 17.0, 1e3, 1e6])
@pytest.mark.parametrize("atom", [0.0, 1e-9, 0.2, 0.999])
def test_best_of_n_and_its_atom_to_ten_digits(n, atom):
    with mp.workdps(60):
        N, e = mp.mpf(n), mp.mpf(atom)
        edge = 1 - e
        mass = 1 - edge**N  # of the atom, whose share of the candidates is e
        law = BestOfN(n, atom=atom)
        divergence = edge**N * (mp.log(N) + (N - 1) * (mp.log(edge) - 1 / N)) + (mass * mp.log(mass / e) if e else 0)
        assert close(law.kl(), divergence) or n == 1
        assert close(law.mean(), N / (N + 1) * edge ** (N + 1) + mass * (1 - e / 2))
        for u in (0.3, 0.5, 0.9, 0.99999):
            inside = u < 1 - atom
            assert close(law.density(u), N * mp.mpf(u) ** (N - 1) if inside else mass / e)
            assert close(law.cdf(u), mp.mpf(u) ** N if inside else edge**N + (u - edge) * mass / e, 1e-9)


# --- what holds for every law ----------------------------------------------------------------------------------


@pytest.mark.parametrize("law", LAWS, ids=at)
@pytest.mark.parametrize("atom", [0.0, 0.1])
def test_density_cdf_quantile_mean_and_divergence_agree(law, atom):
    law = with_atom(law, atom)
    assert pieces(law.density, EDGES) == pytest.approx(1.0, abs=1e-9)
    assert law.cdf(0.0) == pytest.approx(0.0, abs=1e-15)
    assert law.cdf(1.0) == pytest.approx(1.0, abs=1e-13)
    for u in (0.05, 0.6, 0.97):
        below = [edge for edge in EDGES if edge < u] + [u]
        assert law.cdf(u) == pytest.approx(pieces(law.density, below), rel=1e-8, abs=1e-12)
    p = np.linspace(0, 1, 30)
    np.testing.assert_allclose(law.cdf(law.quantile(p)), p, atol=1e-13)
    assert law.mean() == pytest.approx(pieces(lambda u: u * law.density(u), EDGES), abs=1e-9)
    assert law.mean() == pytest.approx(expected(law, lambda u: u), rel=1e-12)
    assert law.kl() == pytest.approx(pieces(lambda u: law.density(u) * law.log_density(u), EDGES), abs=1e-8)


@pytest.mark.parametrize(
    ("make", "parameter"),
    [
        (BestOfN, 7.0),
        (lambda lam, **kw: SoftBestOfN(9, lam, **kw), 0.4),
        (lambda lam, **kw: SoftBestOfN(9, lam, **kw), 12.0),
        (BestOfPoisson, 3.0),
        (Tilt, 0.2),
        (Tilt, 9.0),
    ],
)
@pytest.mark.parametrize("atom", [0.0, 0.25])
def test_the_score_is_the_slope_of_the_log_density_and_averages_to_zero(make, parameter, atom):
    step = 1e-4 * parameter
    u = np.array([0.05, 0.4, 0.7, 0.9, 1.0])
    difference = make(parameter + step, atom=atom).log_density(u) - make(parameter - step, atom=atom).log_density(u)
    law = make(parameter, atom=atom)
    np.testing.assert_allclose(law.score(u), difference / (2 * step), rtol=1e-5, atol=1e-8)
    assert expected(law, lambda u: law.score(u)) == pytest.approx(0.0, abs=1e-12)
    change = expected(make(parameter + step, atom=atom), toy) - expected(make(parameter - step, atom=atom), toy)
    assert slope(law, toy) == pytest.approx(change / (2 * step), rel=1e-5)


@given(st.floats(1, 1e4), st.floats(1.001, 10), st.floats(0, 0.9))
@settings(max_examples=30)
def test_mean_divergence_and_draws_rise_with_the_parameter(parameter, factor, atom):
    for make in (BestOfN, BestOfPoisson, TruncatedPoisson):
        low, high = (make(value, atom=atom) for value in (parameter, parameter * factor))
        assert high.mean() >= low.mean() - 1e-15
        assert high.kl() >= low.kl() - 1e-13
        assert high.expected_draws() > low.expected_draws()


@given(st.integers(2, 60), st.floats(0, 200), st.floats(0.01, 50))
@settings(max_examples=30)
def test_soft_best_of_n_lies_between_plain_sampling_and_best_of_n(n, lam, more):
    law, sharper = SoftBestOfN(n, lam), SoftBestOfN(n, lam + more)
    for figure in ("mean", "kl"):
        least, one, two, most = (getattr(at, figure)() for at in (BestOfN(1), law, sharper, BestOfN(n)))
        assert least - 1e-14 <= one <= two + 1e-14
        assert two <= most + 1e-14


@given(st.sampled_from(LAWS[1:]), st.floats(0.001, 0.5))
@settings(max_examples=40)
def test_the_tilt_costs_least_at_its_mean_and_ties_can_only_lower_the_divergence(law, atom):
    mean = float(law.mean())
    if mean > 0.5 + 1e-12:
        assert law.kl() >= Tilt(parameter_for_mean(Tilt, mean)).kl() - 1e-13
    coarse, coarser = with_atom(law, atom), with_atom(law, 1.5 * atom)
    assert coarser.kl() <= coarse.kl() + 1e-13
    assert coarse.kl() <= law.kl() + 1e-13
    assert with_atom(law, 0.0).kl() == law.kl()


def test_arrays_of_parameters_are_the_laws_one_by_one():
    u = np.linspace(0, 1, 9)[:, None]
    parameters = np.array([1.0, 3.0, 30.0])
    for make in (BestOfN, BestOfPoisson, TruncatedPoisson, lambda lam, **kw: SoftBestOfN([2, 5, 5], lam, **kw)):
        for atom in (0.0, 0.3):
            together = make(parameters, atom=atom)
            for k, one in enumerate(parameters):
                single = make(one, atom=atom)
                if isinstance(single, SoftBestOfN):
                    single = SoftBestOfN([2, 5, 5][k], one, atom=atom)
                for method in ("density", "cdf", "quantile", "score"):
                    whole, part = getattr(together, method)(u), getattr(single, method)(u[:, 0])
                    np.testing.assert_allclose(whole[:, k], part, rtol=1e-12, atol=1e-14)
                for method in ("mean", "kl", "expected_draws"):
                    np.testing.assert_allclose(getattr(together, method)()[k], getattr(single, method)(), rtol=1e-12)
                assert np.ndim(single.mean()) == 0


# --- samples ---------------------------------------------------------------------------------------------------


def p_value(sample, law):
    return scipy.stats.kstest(sample, law.cdf).pvalue


DRAWN = [
    (BestOfN(5), BestOfN(5.3)),
    (BestOfPoisson(3), BestOfPoisson(3.3)),
    (TruncatedPoisson(4), TruncatedPoisson(4.4)),
    (TruncatedPoisson(0.01), BestOfN(1.1)),
    (Tilt(20), Tilt(21)),
    (SoftBestOfN(8, 5), SoftBestOfN(8, 5.5)),
    (SoftBestOfN(3, np.inf), SoftBestOfN(3, 15)),
    (SoftBestOfN(4, 0), SoftBestOfN(4, 0.3)),
]


@pytest.mark.parametrize(("law", "other"), DRAWN, ids=lambda law: law.label)
def test_samples_follow_their_law_and_not_its_neighbour(law, other):
    sample = law.sample(40_000, np.random.default_rng(3))
    assert sample.shape == (40_000,)
    assert p_value(sample, law) > 1e-3
    assert p_value(sample, other) < 1e-3


def test_the_density_that_public_scripts_take_for_soft_best_of_n_does_not_fit():
    n, lam = 8, 5.0
    sample = SoftBestOfN(n, lam).sample(20_000, np.random.default_rng(0))

    def wrong(u):  # the CDF of u^(n-1) e^(lam u), more aggressive than best-of-n
        parts = [pieces(lambda v: v ** (n - 1) * np.exp(lam * v), [0, top]) for top in np.append(np.atleast_1d(u), 1)]
        return np.array(parts[:-1]) / parts[-1]

    knots = np.linspace(0, 1, 400)
    cdf = wrong(knots)
    assert scipy.stats.kstest(sample, lambda u: np.interp(u, knots, cdf)).pvalue < 1e-12
    assert 1 - np.diff(cdf) @ (knots[1:] + knots[:-1]) / 2 < 1 - BestOfN(n).mean() < 1 - SoftBestOfN(n, lam).mean()


def test_samples_have_the_shape_asked_for_and_ties_come_at_their_mid_rank():
    rng = np.random.default_rng(1)
    law = BestOfN([1, 4, 30], atom=0.2)
    sample = law.sample((50, 200), rng)
    assert sample.shape == (50, 200, 3)
    tied = sample == 0.9
    assert not np.any((sample > 0.8) & ~tied)
    np.testing.assert_allclose(tied.mean(axis=(0, 1)), 1 - 0.8 ** np.array([1, 4, 30]), atol=0.02)
    np.testing.assert_allclose(sample.mean(axis=(0, 1)), law.mean(), atol=0.01)
    assert SoftBestOfN([2, 3], [[1.0], [np.inf]]).sample(7, rng).shape == (7, 2, 2)


# --- curves ----------------------------------------------------------------------------------------------------


def test_rewards_of_a_million_draws_to_ten_digits():
    n = 10**6
    for k in (0.5, 1, 3, 40):
        assert expected(BestOfN(n), lambda u, k=k: u**k) == pytest.approx(n / (n + k), rel=1e-13)
        assert expected(BestOfN(n), lambda u, k=k: (1 - u) ** k) == pytest.approx(
            math.exp(math.lgamma(n + 1) + math.lgamma(k + 1) - math.lgamma(n + k + 1)), rel=1e-8
        )
    lam = 1e4
    assert expected(Tilt(lam), lambda u: np.exp(-u)) == pytest.approx(lam / (lam - 1) * math.exp(-1), rel=1e-12)


def test_an_atom_counts_once_at_its_mid_rank():
    law = BestOfN(3, atom=0.5)
    below = pieces(lambda u: 3 * u**2 * np.cos(u), [0, 0.5])
    assert expected(law, np.cos) == pytest.approx(below + (1 - 0.5**3) * math.cos(0.75), rel=1e-12)


def test_the_frontier_lists_what_the_laws_say():
    found = frontier(BestOfN, [1, 2, 12], toy)
    assert found.law == "best of n"
    np.testing.assert_allclose(found.mean, [1 / 2, 2 / 3, 12 / 13])
    np.testing.assert_allclose(found.kl, [0, math.log(2) - 1 / 2, math.log(12) - 11 / 12], atol=1e-12)
    np.testing.assert_array_equal(found.draws, [1, 2, 12])
    assert found.f[2].round(4) == 0.6794
    assert frontier(lambda lam: SoftBestOfN(6, lam), [0, 1, np.inf], toy).draws.tolist() == [6, 6, 6]


@pytest.mark.parametrize(
    ("g", "regime", "kinds"),
    [
        (lambda u: u, "rising", ()),
        (lambda u: -u, "falling", ()),
        (lambda u: 0.3 + 0 * u, "flat", ()),
        (lambda u: np.cos(u) ** 2 + np.sin(u) ** 2, "flat", ()),
        (lambda u: u - 1.5 * u**8, "rise then fall", ("maximum",)),
        (lambda u: 1.5 * u**8 - u, "fall then rise", ("minimum",)),
        (lambda u: u - 2 * u**8 + 1.6 * u**60, "several turns", ("maximum", "minimum")),
    ],
)
@pytest.mark.parametrize("make", [BestOfN, BestOfPoisson, TruncatedPoisson])
def test_all_turns_are_found_and_named(make, g, regime, kinds):
    low = 1.0 if make is BestOfN else 0.0
    found = turning_points(make, low, 1e4, g)
    assert (found.regime, found.kind) == (regime, kinds)
    for root, f, kind in zip(found.parameter, found.f, found.kind, strict=True):
        beside = expected(make(np.array([0.98, 1.02]) * root), g)
        assert np.all(beside < f) if kind == "maximum" else np.all(beside > f)


def test_no_random_number_beats_the_best_fixed_one():
    best = expected(BestOfN(np.arange(1, 60)), toy).max()
    for make in (BestOfPoisson, TruncatedPoisson):
        assert turning_points(make, 0, 1e3, toy).f.max() < best


@given(st.floats(0.5, 0.99999))
@settings(max_examples=25)
def test_the_parameter_for_a_mean_gives_that_mean(mean):
    for make in (BestOfN, BestOfPoisson, Tilt):
        assert make(parameter_for_mean(make, mean)).mean() == pytest.approx(mean, rel=1e-13)
    assert parameter_for_mean(BestOfN, mean) == pytest.approx(mean / (1 - mean), rel=1e-9)


def test_a_mean_beyond_a_family_is_refused():
    assert parameter_for_mean(BestOfN, 0.5) == 1.0
    for make, mean in [(BestOfN, 0.4), (Tilt, 0.4), (Tilt, 1.0), (lambda lam: SoftBestOfN(3, lam), 0.9)]:
        with pytest.raises(DataError, match="mean"):
            parameter_for_mean(make, mean, highest=1e4)


# --- mistakes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BestOfN(0.5), "n = 0.5. Expected numbers from 1"),
        (lambda: BestOfN([2, np.nan]), "best of n: n"),
        (lambda: BestOfN("many"), "n = 'many'"),
        (lambda: BestOfPoisson(-1), "mu = -1"),
        (lambda: BestOfPoisson(np.inf), "mu = inf"),
        (lambda: Tilt(np.inf), "lam = inf.*best-of-n"),
        (lambda: TruncatedPoisson(np.nan), "truncated Poisson: lam = nan"),
        (lambda: SoftBestOfN(3, -0.1), "lam = -0.1. Expected numbers from 0 to infinity"),
        (lambda: SoftBestOfN(2.5, 1), "whole numbers"),
        (lambda: SoftBestOfN(3, 1e9), "at most 1e.06, or inf"),
        (lambda: Tilt(1, atom=1.0), "atom = 1.0"),
        (lambda: Tilt(1, atom=-0.1), "atom = -0.1"),
        (lambda: Tilt(1).density(1.5), "u = 1.5"),
        (lambda: Tilt(1).quantile(np.nan), "p = nan"),
        (lambda: BestOfN(2.5).sample(3, np.random.default_rng(0)), "whole numbers"),
        (lambda: expected(BestOfN(2), lambda u: u / (u > 0.5)), "finite reward"),
        (lambda: turning_points(BestOfN, 5, 2, toy), "low < high"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_mistakes_are_named(make, message):
    with pytest.raises(DataError, match=message):
        make()


def test_labels_say_the_law_its_parameters_and_its_atom():
    assert BestOfN(4).label == "best of n, n = 4"
    assert SoftBestOfN(8, 2.5).label == "soft best of n = 8, lam = 2.5"
    assert BestOfPoisson([1, 2, 3.5], atom=0.25).label == "best of Poisson, mu = 1 … 3.5, 0.25 tied at the top"
    assert TruncatedPoisson(2).label == "best of truncated Poisson, lam = 2"
