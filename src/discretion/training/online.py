"""Train a policy on what a reward model says of its own responses, by REINFORCE with leave-one-out baselines or GRPO.

TRL's trainers; prompts and responses are put together, and scored, as the audit does it. Each response is sampled
anew, so a step costs many times one of DPO.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from discretion.errors import DataError, EmptyError, ExtraError
from discretion.judges.asking import OK, Block, Score, digest
from discretion.judges.models import LoadedModel, load
from discretion.judges.rendering import Rendering
from discretion.judges.reward import RewardModel
from discretion.training.fitting import Fit, Fitted, Report
from discretion.training.runs import Prepared, run
from discretion.training.start import arguments, load_base, low_rank, one_device

try:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer
except ModuleNotFoundError as error:
    raise ExtraError("train", "Training a model") from error

METHODS = ("rloo", "grpo")
"""RLOO: Ahmadian et al., arXiv 2402.14740. GRPO: Shao et al., arXiv 2402.03300."""

_FORM: dict[str, dict[str, Any]] = {
    "rloo": {"normalize_advantages": False},
    "grpo": {"loss_type": "grpo", "scale_rewards": "group", "importance_sampling_level": "token"},
}  # what makes TRL's trainers what `METHODS` cites: its GRPO is by default that of DAPO


def train_online(
    base: str | Path,
    reward_model: str | Path,
    prompts: Sequence[str],
    folder: str | Path,
    fit: Fit,
    *,
    method: str = "rloo",
    beta: float = 0.05,
    samples: int = 4,
    new_tokens: int = 64,
    report: Report | None = None,
) -> Fitted:
    """Train a policy to responses that a reward model scores high, without going far from where it began.

    Responses are sampled at temperature 1, all tokens allowed, and each is learnt from once, in the step that it was
    sampled for: ratios of probabilities are 1, and what clips them has nothing to do. Dropout is off.

    "rloo": the reward of a response, less beta times its log-ratio (log-probability under the policy less that under
    the base, summed over its tokens), is held against the mean of the others to its prompt. The difference multiplies
    the log-probability of the response as a whole.

    "grpo": rewards of a prompt's responses are made to have mean 0 and standard deviation 1 (plus 0.0001). Each
    multiplies the log-probabilities of its response's tokens, averaged over these, then over responses (equation 3 of
    the paper, of TRL's losses "grpo"); beta times the estimate r - log r - 1, with r the base's probability of a token
    over the policy's (equation 4), is added to the loss of each token.

    Parameters
    ----------
    base : path or str
        A language model.
    reward_model : path or str
        A classifier with one output.
    prompts : sequence of str
    folder : path
        As for `discretion.training.reward_model.train_reward_model`.
    fit : Fit
        A batch is so many prompts, each with its samples. What does not fill a last step is not used.
    method : str
        One of `METHODS`.
    beta : float
        At least 0. "rloo": what a nat of a response's log-ratio costs, in units of reward. "grpo": what a nat of
        divergence at a token costs, beside advantages that have no unit: the scale of rewards does not matter.
    samples : int
        Responses to each prompt, at least 2: each is held against the others.
    new_tokens : int
        Tokens of a response at the most.
    report : callable, optional

    Returns
    -------
    Fitted
        `left_out` counts prompts that leave no room for a response within `fit.max_length`.

    Raises
    ------
    DataError, EmptyError
        A setting is out of its range, or there are too few prompts.
    StudyError
        The folder holds something else, or a run with other settings.
    JudgeError, ReadError
        A model cannot be loaded.
    """
    if method not in METHODS:
        raise DataError(f"the method {method!r} is unknown.", expected=f"one of {', '.join(METHODS)}")
    if samples < 2 or new_tokens < 1 or not 0 <= beta < math.inf:
        raise DataError(
            f"samples is {samples}, new_tokens {new_tokens} and beta {beta!r}.",
            expected="at least 2 samples and 1 token, and a number that is not below 0",
        )

    def prepare(folder: Path) -> Prepared:
        loaded = load_base(base, fit)
        judge = RewardModel(load(reward_model, kind="score", device=loaded.device), batch=fit.batch * samples)
        kept, order = fitting_prompts(loaded, prompts, fit, new_tokens)
        config, trainer = {"rloo": (RLOOConfig, _Rloo), "grpo": (GRPOConfig, _Grpo)}[method]
        shared = arguments(folder, fit) | {"per_device_train_batch_size": fit.batch * samples, "num_train_epochs": 1}
        made = trainer(
            loaded.model,
            reward_funcs=_Reward(judge),
            args=one_device(config(
                **shared, **_FORM[method], num_generations=samples, max_completion_length=new_tokens, beta=beta,
                steps_per_generation=fit.accumulate, num_iterations=1, temperature=1.0, shuffle_dataset=False,
            )),
            train_dataset=Dataset.from_dict({"prompt": [kept[k] for k in order]}),
            processing_class=loaded.tokenizer,
            peft_config=low_rank(fit, "CAUSAL_LM", loaded.model),
            rendering=_Prompts(loaded),
        )  # fmt: skip
        return Prepared(made, len(prompts) - len(kept))

    about = {
        "method": method, "beta": beta, "samples": samples, "new_tokens": new_tokens,
        "prompts": len(prompts), "data": digest(list(prompts)), "form": {**_FORM[method], "dropout": False},
    }  # fmt: skip
    return run(folder, about, fit, prepare, report, base=base, reward_model=reward_model)


def fitting_prompts(
    loaded: LoadedModel, prompts: Sequence[str], fit: Fit, new_tokens: int
) -> tuple[list[str], list[int]]:
    """Return the prompts that leave room for a response, and the order in which they are taken.

    Raises
    ------
    EmptyError
        They do not fill a step.
    """
    rendering = _Prompts(loaded)
    most = min(fit.max_length, loaded.context or fit.max_length) - new_tokens
    kept = [prompt for prompt in prompts if 0 < len(rendering.tokens(prompt)) <= most]
    order = _order(len(kept), fit)
    if len(order) < fit.batch * fit.accumulate:
        raise EmptyError(
            f"{len(kept)} of {len(prompts)} prompts have room for a response, over {fit.epochs:g} epochs; a step "
            f"takes {fit.batch * fit.accumulate}.",
            remedy="Lower batch or accumulate, or raise max_length.",
        )
    return kept, order


def _order(n: int, fit: Fit) -> list[int]:
    """Return the prompts of all epochs in their order.

    The trainer's own sampler begins its first epoch's order again where a run is resumed in a later one.
    """
    rng = np.random.default_rng(fit.seed)
    order = [int(k) for _ in range(math.ceil(fit.epochs)) for k in rng.permutation(n)]
    return order[: int(fit.epochs * n)]


class _Prompts:
    """Prompts as tokens, up to where a response begins."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._rendering = Rendering(loaded.tokenizer)

    def tokens(self, prompt: str) -> list[int]:
        text, _ = self._rendering.prompt_and_response(prompt, "")
        return self._rendering.tokens([text])[0]


class _Reward:
    """What a reward model says of responses; None where it says nothing, which moves the policy nowhere."""

    __name__ = "reward_model"

    def __init__(self, judge: RewardModel) -> None:
        self._judge = judge

    def __call__(self, prompts: list[str], completions: list[str], **_: Any) -> list[float | None]:
        found: list[float | None] = [None] * len(prompts)

        def take(scores: list[Score]) -> None:
            for score in scores:
                found[int(score.case)] = score.values["reward"] if score.status == OK else None

        pairs = zip(prompts, completions, strict=True)
        blocks = [Block(str(k), prompt, text, text, ()) for k, (prompt, text) in enumerate(pairs)]
        self._judge.run(blocks, take, threading.Event())
        return found


class _Online:
    """Takes from a trainer of TRL's how it reads prompts, its telemetry and its cards."""

    def __init__(self, *args: Any, rendering: _Prompts, **kwargs: Any) -> None:
        self._rendering = rendering
        super().__init__(*args, **kwargs)

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [self._rendering.tokens(prompt) for prompt in prompts], None, {}

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write none: fit.json says how a model was made."""

    def _send_telemetry(self) -> None:
        """Send none."""


class _Rloo(_Online, RLOOTrainer):  # type: ignore[misc]  # trl is untyped here
    pass


class _Grpo(_Online, GRPOTrainer):  # type: ignore[misc]  # trl is untyped here
    pass
