"""A discretion loss: slopes are true and unbiased, nothing gives nothing, and descent closes the gap."""

from __future__ import annotations

import numpy as np
import pytest

from discretion.errors import DataError, EmptyError
from discretion.metrics.discrepancy import discrepancy
from discretion.metrics.priority import fit
from discretion.metrics.supremacy import supremacy, wins
from discretion.vote import MISSING

from .annotator import P, audited, margins_for, reference_for, slope

torch = pytest.importorskip("torch")

from discretion.training.hierarchy import soft_supremacy  # noqa: E402
from discretion.training.loss import (  # noqa: E402
    KINDS,
    DiscretionLoss,
    choice_loss,
    luce_choices,
    supremacy_divergence,
    supremacy_loss,
)


def test_luce_choices_by_hand() -> None:
    w = torch.tensor([np.log(3.0), 0.0, np.log(2.0), torch.nan, torch.inf, torch.inf], dtype=torch.float64)
    X = torch.tensor(
        [[1, -1, 0, 0, 0, 0], [1, -1, -1, MISSING, 0, 0], [1, 1, 0, 0, 0, 0], [1, 0, 0, -1, 0, 0],
         [1, 0, 0, 0, -1, 0], [0, 0, 0, 0, 1, -1]], dtype=torch.int8,
    )  # fmt: skip
    np.testing.assert_allclose(luce_choices(X, w), [0.75, 0.5, np.nan, np.nan, 0.0, np.nan])


@pytest.mark.parametrize("kind", ["supremacy", "memory", "choice"])
def test_slopes_agree_with_finite_differences(kind: str) -> None:
    X, _, share, priority = audited(60)
    votes = torch.tensor(X)
    memory = 3.0 * torch.rand(P, P, generator=torch.Generator().manual_seed(0)) if kind == "memory" else None

    def loss(m: torch.Tensor) -> torch.Tensor:
        if kind == "choice":
            return choice_loss(m, votes, torch.tensor(priority.logits))
        return supremacy_loss(torch.sigmoid(m), votes, torch.tensor(share), memory=memory)

    assert torch.autograd.gradcheck(loss, margins_for(60))


# Symmetries


@pytest.mark.parametrize("decay", [0.0, 0.9])
@pytest.mark.parametrize("kind", KINDS)
def test_names_of_principles_and_the_order_of_responses_do_not_matter(kind: str, decay: float) -> None:
    X, m, reference = audited()[0], margins_for(300), reference_for(kind)
    mirrored = np.where(X == MISSING, MISSING, -X).astype(np.int8)
    turn = np.random.default_rng(3).permutation(P)
    turned = reference[np.ix_(turn, turn)] if kind == "supremacy" else reference[turn]

    def run(sign: float, votes: np.ndarray, goal: np.ndarray) -> list[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
        module, found = DiscretionLoss(goal, kind, decay=decay), []
        for part in (slice(0, 150), slice(150, 300)):  # the second meets a memory
            loss, figures = module(sign * m[part], torch.tensor(votes[part]))
            found.append((slope(loss, m), {"loss": loss.detach(), **figures}))
        return found

    plain = run(1.0, X, reference)
    torch.testing.assert_close(run(-1.0, mirrored, reference), plain, rtol=1e-5, atol=1e-7, equal_nan=True)
    torch.testing.assert_close(run(1.0, X[:, turn], turned), plain, rtol=1e-5, atol=1e-7, equal_nan=True)
    wrong = run(-1.0, X, reference)  # negative control: the margins alone turned
    assert (wrong[1][0] - plain[1][0]).abs().max() > 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_vote_is_no_vote(kind: str) -> None:
    X, m, reference = audited()[0], margins_for(300), reference_for(kind)
    loss = DiscretionLoss(reference, kind, decay=0.0)
    silent = np.where(X == MISSING, 0, X)
    assert (X == MISSING).any()
    torch.testing.assert_close(loss(m, torch.tensor(X)), loss(m, torch.tensor(silent)))


@pytest.mark.parametrize("kind", KINDS)
def test_whole_weights_are_copies(kind: str) -> None:
    X, m, reference = audited()[0], margins_for(300).detach(), reference_for(kind)
    copies = np.random.default_rng(4).integers(0, 3, 300)
    loss = DiscretionLoss(reference, kind, decay=0.0)
    weighted, figures = loss(m, torch.tensor(X), torch.tensor(copies))
    again = np.repeat(np.arange(300), copies)
    repeated, others = loss(m[again], torch.tensor(X[again]))
    scale = 1.0 if kind == "priority" else len(again) / 300
    assert float(weighted) == pytest.approx(float(repeated) * scale, rel=1e-6)
    for name in set(figures) - {"conflicts"}:
        assert float(figures[name]) == pytest.approx(float(others[name]), rel=1e-5), name


# Nothing to learn from


@pytest.mark.parametrize("decay", [0.0, 0.9])
@pytest.mark.parametrize("kind", KINDS)
def test_without_conflicts_loss_and_slope_are_exactly_zero(kind: str, decay: float) -> None:
    module = DiscretionLoss(reference_for(kind), kind, decay=decay)
    X = torch.tensor(audited()[0])
    module(margins_for(300), X)  # a memory, where there is one
    plus, minus = (X == 1).any(dim=1), (X == -1).any(dim=1)
    calm = X[~(plus & minus)]
    for votes in (calm, torch.zeros(4, P, dtype=torch.int8), torch.full((4, P), MISSING, dtype=torch.int8), X[:0]):
        m = margins_for(len(votes)) * 10
        loss, figures = module(m, votes)
        assert loss.item() == 0
        assert (slope(loss, m) == 0).all()
        assert figures["conflicts"] == 0
    assert figures["arbitrariness"].isnan()
    infinite = torch.tensor([torch.inf, -torch.inf], requires_grad=True)
    loss, _ = module(infinite, calm[:2])
    assert (slope(loss, infinite) == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_certain_references_and_certain_models_stay_finite(kind: str) -> None:
    reference = np.array([[np.nan, 1.0], [0.0, np.nan]]) if kind == "supremacy" else np.array([np.inf, -np.inf])
    X = torch.tensor([[1, -1]] * 6, dtype=torch.int8)
    m = torch.tensor([-200.0, 200.0, 0.0, 30.0, -30.0, 1.0], requires_grad=True)
    module = DiscretionLoss(reference, kind)
    for _ in range(3):
        loss, figures = module(m, X)
        assert loss.isfinite()
        pull = slope(loss, m)
        assert pull.isfinite().all()
    assert all(figure.isfinite() for name, figure in figures.items() if name != "arbitrariness")
    assert pull[2] < 0  # towards the principle that the reference always follows


# Batches


def batches(n: int, size: int, rounds: int) -> np.ndarray:
    """Batches that cover every comparison equally often: their mean is an expectation, without noise."""
    rng = np.random.default_rng(5)
    return np.concatenate([rng.permutation(n).reshape(-1, size) for _ in range(rounds)])


@pytest.mark.parametrize("kind", ["supremacy", "priority", "choice"])
def test_expected_slopes_of_small_batches_are_the_slope_of_all(kind: str) -> None:
    X, _, share, priority = audited(240)
    votes, m = torch.tensor(X), margins_for(240)
    reference = torch.tensor(share if kind == "supremacy" else priority.logits)

    def found(part: np.ndarray, memory: bool) -> torch.Tensor:
        module = DiscretionLoss(reference, kind, decay=0.5 if memory else 0.0).eval()
        module.memory += soft_supremacy(torch.sigmoid(m.detach()), votes).float()
        module.seen += 240
        return slope(module(m[part], votes[part])[0], m)

    whole = found(np.arange(240), False)
    parts = batches(240, 8, 1)
    expected = torch.stack([found(part, True) for part in parts]).mean(dim=0)
    torch.testing.assert_close(expected, whole, rtol=1e-4, atol=1e-8)
    alone = torch.stack([found(part, False) for part in parts]).mean(dim=0)
    off = float((alone - whole).norm() / whole.norm())
    assert off == pytest.approx(0.0, abs=1e-6) if kind == "choice" else off > 0.2  # the bias that a memory takes away


def test_a_batch_alone_pulls_a_perfect_model_off_and_a_memory_does_not() -> None:
    X, y, _, _ = audited(240)
    votes = torch.tensor(X)
    m = torch.tensor(3.0 * y, dtype=torch.float64, requires_grad=True)
    W = soft_supremacy(torch.sigmoid(m), votes).detach()
    own = torch.tensor(supremacy(W.numpy())[0])  # the reference is the model itself
    parts = batches(240, 8, 2)

    def pull(memory: torch.Tensor | None) -> float:
        losses = [supremacy_loss(torch.sigmoid(m[i]), votes[i], own, memory=memory) for i in parts]
        return float((slope(torch.stack(losses).mean(), m) * torch.tensor(y)).sum())

    assert pull(W) == pytest.approx(0.0, abs=1e-12)
    assert pull(None) > 1e-3  # a positive slope along its choices: descent makes it less certain


def test_a_perfect_model_has_no_divergence_and_no_slope() -> None:
    X, y, share, _ = audited()
    p = torch.tensor(y == 1).double().requires_grad_()
    W = soft_supremacy(p, torch.tensor(X))
    divergence, games = supremacy_divergence(W, torch.tensor(share))
    assert divergence.item() == pytest.approx(0.0, abs=1e-12)
    assert games.item() == wins(X, y).sum()
    assert slope(supremacy_loss(p, torch.tensor(X), torch.tensor(share)), p).abs().max() < 1e-12
    assert supremacy_divergence(W.T, torch.tensor(share))[0] > 0.05


# Training


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_descent_closes_the_gap_and_without_the_loss_it_stays(kind: str) -> None:
    X, _, share, priority = audited()
    votes = torch.tensor(X)
    if kind == "choice":  # which promises the figures of an annotator that follows Luce's rule, and of no other
        w = np.linspace(1.5, -1.5, P)
        priority = fit((1 - np.eye(P)) / (1 + np.exp(w[None, :] - w[:, None])))
    start = torch.logit(luce_choices(votes, -torch.tensor(priority.logits)).nan_to_num(0.5))
    reference = share if kind == "supremacy" else priority.logits

    def trained(weight: float) -> tuple[float, float]:
        module = DiscretionLoss(reference, kind, weight)
        m = start.clone().requires_grad_()
        optimiser = torch.optim.Adam([m], lr=0.1)
        for part in batches(300, 20, 30):
            rest = 1e-3 * (m - start).square().mean()  # what else there is to learn
            optimiser.zero_grad()
            (module(m[part], votes[part])[0] + rest).backward()
            optimiser.step()
        W = soft_supremacy(torch.sigmoid(m.detach()), votes)
        return float(discrepancy(fit(W.numpy()), priority)[0]), float(supremacy_divergence(W, torch.tensor(share))[0])

    gap, divergence = trained(1.0)
    assert gap == 0
    assert trained(0.0)[0] > 0.8
    if kind == "supremacy":
        assert divergence < 0.005


@pytest.mark.slow
def test_small_batches_end_nearer_with_a_memory_than_without() -> None:
    X, _, share, priority = audited()
    votes, reference = torch.tensor(X), torch.tensor(share)

    def left(decay: float) -> float:
        module = DiscretionLoss(reference, decay=decay)
        m = torch.logit(luce_choices(votes, -torch.tensor(priority.logits)).nan_to_num(0.5)).requires_grad_()
        optimiser = torch.optim.Adam([m], lr=0.05)
        for part in batches(300, 6, 40):
            optimiser.zero_grad()
            module(m[part], votes[part])[0].backward()
            optimiser.step()
        return supremacy_divergence(soft_supremacy(torch.sigmoid(m.detach()), votes), reference)[0].item()

    assert left(0.98) < left(0.0) / 3


@pytest.mark.parametrize("kind", ["supremacy", "priority"])
def test_the_first_batch_only_fills_the_memory(kind: str) -> None:
    X, m, module = torch.tensor(audited()[0]), margins_for(300), DiscretionLoss(reference_for(kind), kind)
    pulls = [slope(module(m, X)[0], m).abs().max() for _ in range(2)]
    assert pulls[0] < 1e-12
    assert pulls[1] > 1e-5


def test_a_resumed_run_equals_an_uninterrupted_one() -> None:
    X, reference = torch.tensor(audited()[0]), reference_for("supremacy")
    m = margins_for(300)
    one, two = DiscretionLoss(reference), DiscretionLoss(np.full((P, P), 0.5))
    for part in (slice(0, 100), slice(100, 200)):
        one(m[part], X[part])
    two.load_state_dict(one.state_dict())
    fresh = DiscretionLoss(reference)
    left, right, other = (module(m[200:], X[200:])[0] for module in (one, two, fresh))
    assert torch.equal(left, right)
    assert not torch.equal(left, other)


def test_evaluation_leaves_the_memory_alone() -> None:
    X, module = torch.tensor(audited()[0]), DiscretionLoss(reference_for("supremacy"))
    module.eval()(margins_for(300), X)
    assert module.memory.sum() == 0
    module.train()(margins_for(300), X)
    assert module.memory.sum() > 0


# Half precision


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_computed_in_full(kind: str, dtype: torch.dtype) -> None:
    X, reference = torch.tensor(audited()[0]), reference_for(kind)
    coarse = margins_for(300).detach().to(dtype).requires_grad_()
    exact = coarse.detach().double().requires_grad_()
    half, full = DiscretionLoss(reference, kind).to(dtype), DiscretionLoss(reference, kind)
    assert half.memory.dtype == half.reference.dtype == torch.float32
    for _ in range(2):
        with torch.autocast("cpu", dtype=dtype):
            loss, _ = half(coarse, X)
            loss.backward()
        other, _ = full(exact, X)
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(other.item(), rel=1e-5, abs=1e-6)
    other.backward()
    assert coarse.grad is not None
    assert coarse.grad.dtype == dtype
    assert coarse.grad.isfinite().all()
    # Negative control: half precision itself cannot hold the wins.
    with torch.autocast("cpu", dtype=dtype):
        sides = (X == 1).to(dtype), (X == -1).to(dtype)
        rough = (sides[0] * torch.sigmoid(coarse)[:, None]).mT @ sides[1]
    assert (
        rough.double() - (sides[0].double() * torch.sigmoid(exact)[:, None]).mT @ sides[1].double()
    ).abs().max() > 1e-3


# Refusals


@pytest.mark.parametrize(
    ("reference", "kind", "told"),
    [
        (np.zeros(P), "supremacy", r"\(5,\)"),
        (np.zeros((P, P)), "choice", r"\(5, 5\)"),
        (np.full((P, P), 3.0), "supremacy", "sum to 1"),
        (np.array([[np.nan, 1.5], [-0.5, np.nan]]), "supremacy", "between 0 and 1"),
        (np.zeros(P), "rank", "rank"),
    ],
)
def test_a_wrong_reference_is_refused(reference: np.ndarray, kind: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        DiscretionLoss(reference, kind)


def test_empty_references_settings_and_shapes_are_refused() -> None:
    with pytest.raises(EmptyError):
        DiscretionLoss(np.full((P, P), np.nan))
    with pytest.raises(EmptyError):
        DiscretionLoss(np.array([np.inf, np.inf, np.nan]), "priority")
    for setting in ({"decay": 1.0}, {"temperature": 0.0}, {"tau": -1.0}, {"prior_games": float("nan")}):
        with pytest.raises(DataError, match=next(iter(setting))):
            DiscretionLoss(np.arange(3.0), "choice", **setting)
    X = torch.tensor(audited()[0])
    for kind in KINDS:
        module = DiscretionLoss(reference_for(kind), kind)
        for m, votes in ((torch.zeros(3), X), (torch.zeros(300, 1), X), (torch.zeros(300), X[:, :3])):
            with pytest.raises(DataError, match="go together"):
                module(m, votes)
