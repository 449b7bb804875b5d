"""Train a reward model on preferences: a language model's body with one output, whose differences are margins.

TRL's trainer, with its texts put together as `discretion.judges.reward` reads them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from discretion.errors import ExtraError
from discretion.judges.models import LoadedModel
from discretion.judges.rendering import Rendering
from discretion.judges.reward_head import body_of, one_output, reward_class
from discretion.training.fitting import Discretion, Fit, Fitted, Report
from discretion.training.pairwise import (
    BesidePairs,
    PairTrainer,
    Term,
    Tokenise,
    check,
    dataset,
    relative_weights,
    settings,
)
from discretion.training.preferences import Preferences
from discretion.training.runs import Prepared, run
from discretion.training.start import arguments, load_base, low_rank, one_device

try:
    import torch
    from trl import RewardConfig, RewardTrainer
    from trl.trainer.reward_trainer import DataCollatorForPreference
except ModuleNotFoundError as error:
    raise ExtraError("train", "Training a model") from error


def train_reward_model(
    base: str | Path,
    preferences: Preferences,
    folder: str | Path,
    fit: Fit,
    *,
    discretion: Discretion | None = None,
    smoothing: float = 0.0,
    weights: ArrayLike | None = None,
    report: Report | None = None,
) -> Fitted:
    """Train a reward model: - log s(r(chosen) - r(rejected)), and what is asked for beside it.

    Parameters
    ----------
    base : path or str
        A language model, which gets a new last layer. A folder, or a name on the hub.
    preferences : Preferences
    folder : path
        Where the model goes. A run that was interrupted there goes on from its last checkpoint; a finished one
        returns at once.
    fit : Fit
    discretion : Discretion, optional
        Its margins are differences of rewards.
    smoothing : float
        Share of preferences taken to be noise, at least 0 and below 0.5.
    weights : float (n,), optional
        How much each comparison counts, relative to the others: those in conflict may be given more. The discretion
        loss takes all alike.
    report : callable, optional
        See `discretion.training.fitting.Report`.

    Returns
    -------
    Fitted

    Raises
    ------
    DataError, EmptyError
        The data or the discretion loss cannot be used.
    StudyError
        The folder holds something else, or a run with other settings.
    JudgeError, ReadError
        The base model cannot be loaded.
    """
    check(preferences, smoothing, discretion)
    relative = relative_weights(weights, len(preferences))

    def prepare(folder: Path) -> Prepared:
        loaded = load_base(base, fit)
        rows, left_out = dataset(preferences, relative, tokeniser(loaded, fit))
        term = None if discretion is None else Term(discretion, torch.device(loaded.device))
        model = _with_reward(loaded, fit)
        trainer = _Trainer(
            model,
            one_device(RewardConfig(**arguments(folder, fit), max_length=None)),
            data_collator=BesidePairs(DataCollatorForPreference(loaded.tokenizer.pad_token_id)),
            train_dataset=rows,
            processing_class=loaded.tokenizer,
            peft_config=low_rank(fit, "SEQ_CLS", model),
            smoothing=smoothing,
            term=term,
        )
        return Prepared(trainer, left_out, term)

    about = {"method": "reward model", **settings(preferences, smoothing, relative, discretion)}
    return run(folder, about, fit, prepare, report, base=base)


class _Trainer(PairTrainer, RewardTrainer):  # type: ignore[misc]  # trl is untyped here
    def margins(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, float]:
        chosen, rejected = model(**inputs, use_cache=False).logits.squeeze(-1).float().chunk(2)
        return chosen - rejected, 0.0


def tokeniser(loaded: LoadedModel, fit: Fit) -> Tokenise:
    """Return how a reward model reads a comparison: two whole texts."""
    rendering = Rendering(loaded.tokenizer)
    most = min(fit.max_length, loaded.context or fit.max_length)

    def tokenise(prompt: str, chosen: str, rejected: str) -> dict[str, list[int]] | None:
        texts = [rendering.conversation(prompt, response) for response in (chosen, rejected)]
        a, b = rendering.tokens(texts, ended=True)
        return {"chosen_ids": a, "rejected_ids": b} if min(len(a), len(b)) > 0 and max(len(a), len(b)) <= most else None

    return tokenise


def _with_reward(loaded: LoadedModel, fit: Fit) -> Any:
    """Return a model with the body of a language model and a new last layer with one output, drawn by the seed."""
    kind = reward_class(loaded.model.config, loaded.name)
    torch.manual_seed(fit.seed)
    model = kind._from_config(one_output(loaded.model.config), dtype=loaded.model.dtype)
    model.base_model.load_state_dict(body_of(loaded.model)[1].state_dict())
    return model.to(loaded.device)
