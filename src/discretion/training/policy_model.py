"""Train a policy on preferences: direct preference optimisation (DPO, arXiv 2305.18290).

TRL's trainer, with its texts put together as `discretion.judges.policy` reads them. What the base says of each response
is computed once, before training: no second model stays in memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from discretion.errors import DataError, ExtraError
from discretion.judges.models import LoadedModel
from discretion.judges.rendering import Rendering
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
    from trl import DPOConfig, DPOTrainer
    from trl.trainer.dpo_trainer import DataCollatorForPreference
except ModuleNotFoundError as error:
    raise ExtraError("train", "Training a model") from error

_REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")


def train_dpo(
    base: str | Path,
    preferences: Preferences,
    folder: str | Path,
    fit: Fit,
    *,
    beta: float = 0.1,
    discretion: Discretion | None = None,
    smoothing: float = 0.0,
    weights: ArrayLike | None = None,
    report: Report | None = None,
) -> Fitted:
    """Train a policy: - log s(beta (log-ratio of chosen - log-ratio of rejected)), and what is asked for beside it.

    A log-ratio is log p(response | prompt) of the policy minus that of the base.

    Parameters
    ----------
    base : path or str
        A language model: where the policy begins, and what its log-ratios are relative to.
    beta : float
        The smaller, the further from the base.
    discretion : Discretion, optional
        Its margins are beta times differences of log-ratios. With the hierarchy of a reward model as the reference it
        holds the policy to what that one ranks first.
    preferences, folder, fit, smoothing, weights, report
        As for `discretion.training.reward_model.train_reward_model`.

    Returns
    -------
    Fitted

    Raises
    ------
    DataError, EmptyError
        The data or the losses cannot be used.
    StudyError
        The folder holds something else, or a run with other settings.
    JudgeError, ReadError
        The base model cannot be loaded.
    """
    if not 0 < beta < float("inf"):
        raise DataError(f"beta is {beta!r}.", expected="a positive number")
    check(preferences, smoothing, discretion)
    relative = relative_weights(weights, len(preferences))

    def prepare(folder: Path) -> Prepared:
        loaded = load_base(base, fit)
        rows, left_out = dataset(preferences, relative, tokeniser(loaded, fit))
        term = None if discretion is None else Term(discretion, torch.device(loaded.device))
        trainer = _Trainer(
            loaded.model,
            args=one_device(
                DPOConfig(**arguments(folder, fit), max_length=None, beta=beta, precompute_ref_log_probs=True)
            ),
            data_collator=BesidePairs(DataCollatorForPreference(loaded.tokenizer.pad_token_id)),
            train_dataset=rows,
            processing_class=loaded.tokenizer,
            peft_config=low_rank(fit, "CAUSAL_LM", loaded.model),
            smoothing=smoothing,
            term=term,
        )
        return Prepared(trainer, left_out, term)

    about = {"method": "dpo", "beta": beta, **settings(preferences, smoothing, relative, discretion)}
    return run(folder, about, fit, prepare, report, base=base)


class _Trainer(PairTrainer, DPOTrainer):  # type: ignore[misc]  # trl is untyped here
    def margins(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor | float]:
        labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
        more = {"output_router_logits": True} if self.aux_loss_enabled else {}
        outputs = model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], labels=labels, use_cache=False,
            fused_lm_head=True, **more,
        )  # fmt: skip
        chosen, rejected = outputs.log_probs.sum(dim=1).chunk(2)
        margins = self.beta * ((chosen - inputs[_REFERENCE[0]]) - (rejected - inputs[_REFERENCE[1]]))
        return margins, self.router_aux_loss_coef * outputs.aux_loss if self.aux_loss_enabled else 0.0

    def _prepare_dataset(self, dataset: Any, *args: Any) -> Any:
        return dataset  # it has its tokens

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        # The trainer's own leaves files in the cache of data sets and a progress bar on the terminal.
        model = self.model.to(self.accelerator.device)
        found: tuple[list[float], list[float]] = ([], [])
        for start in range(0, len(dataset), batch_size):
            batch = self.data_collator([dataset[k] for k in range(start, min(start + batch_size, len(dataset)))])
            read = {k: batch[k].to(model.device) for k in ("input_ids", "attention_mask", "completion_mask")}
            for values, side in zip(found, self.compute_ref_log_probs(model, read), strict=True):
                values += side.float().tolist()
        for name_of, values in zip(_REFERENCE, found, strict=True):
            dataset = dataset.add_column(name_of, values)
        return dataset


def tokeniser(loaded: LoadedModel, fit: Fit) -> Tokenise:
    """Return how a policy reads a comparison: a prompt, and the two responses that follow it."""
    rendering = Rendering(loaded.tokenizer)
    most = min(fit.max_length, loaded.context or fit.max_length)
    tokens = loaded.tokenizer
    begin = next((i for i in (tokens.bos_token_id, tokens.eos_token_id) if i is not None), None)

    def tokenise(prompt: str, chosen: str, rejected: str) -> dict[str, list[int]] | None:
        opening, a = rendering.prompt_and_response(prompt, chosen)
        _, b = rendering.prompt_and_response(prompt, rejected)
        alone, x, y = rendering.tokens([opening, opening + a, opening + b])
        start = min(_shared(alone, x), _shared(alone, y))
        if start == 0 and begin is not None:  # the first token has a probability only behind another
            start, x, y = 1, [begin, *x], [begin, *y]
        if not start or max(len(x), len(y)) > most or start == min(len(x), len(y)):
            return None
        return {"prompt_ids": x[:start], "chosen_ids": x[start:], "rejected_ids": y[start:]}

    return tokenise


def _shared(a: list[int], b: list[int]) -> int:
    """Return how many tokens two texts begin with in common."""
    return next((k for k, (i, j) in enumerate(zip(a, b, strict=False)) if i != j), min(len(a), len(b)))
