"""What can be known of an experiment before anything is written: whether judge, device, base and texts go together.

It costs a base's tokenizer and configuration, and a judge that is opened twice; what fails here leaves no trace.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from discretion.errors import EmptyError, ExtraError, JudgeError, StudyError, shown
from discretion.judges.models import LoadedModel, outline
from discretion.judges.opening import open_judge
from discretion.judges.reward_head import one_output, reward_class
from discretion.judges.spec import Options, Spec
from discretion.training import online, policy_model, reward_model
from discretion.training.design import Design, Split
from discretion.training.fitting import Fit
from discretion.training.pairwise import Tokenise
from discretion.training.preferences import Preferences
from discretion.training.runs import quiet, release
from discretion.training.start import device, low_rank, settle

try:
    import torch
    from peft import get_peft_model
except ModuleNotFoundError as error:
    raise ExtraError("train", "Training a model") from error


def check_run(design: Design, judge: str, options: Options, replicates: int) -> None:
    """Refuse what no run of an experiment can do, whatever its folder holds: a device, a judge, replicates.

    Raises
    ------
    StudyError, JudgeError, ReadError, ExtraError
        There is no such device or judge, or it cannot be asked.
    """
    device(replace(design.reward_fit, device=options.device))
    if not 0 <= replicates < math.inf:
        raise StudyError(f"replicates is {replicates}. Expected 0 or more.")
    if judge:
        open_judge(Spec.parse(judge), options)
        release()


def check_base(base: str | Path, design: Design, parts: Split, prompts: Sequence[str]) -> None:
    """Refuse a base that cannot be trained as the design says, or not on these texts.

    Parameters
    ----------
    prompts : sequence of str
        That an online method would train on.

    Raises
    ------
    JudgeError
        There is no such model, or it has no body for a reward model, or no layers for low-rank changes.
    StudyError
        Its tokenizer has nothing to pad with.
    EmptyError
        No comparison, or too few prompts, are short enough.
    """
    with quiet():
        _check_base(outline(base), design, parts, prompts)


def _check_base(loaded: LoadedModel, design: Design, parts: Split, prompts: Sequence[str]) -> None:
    settle(loaded)
    rewarding = reward_class(loaded.model.config, loaded.name)
    if design.reward_fit.lora_rank:
        with torch.device("meta"):
            classifier = rewarding(one_output(loaded.model.config))
        _check_low_rank(design.reward_fit, "SEQ_CLS", classifier, loaded.name)
    _check_texts(parts.train, reward_model.tokeniser(loaded, design.reward_fit), "the reward model", design.reward_fit)
    if design.method == "dpo":
        _check_texts(parts.train, policy_model.tokeniser(loaded, design.policy_fit), "DPO", design.policy_fit)
    else:
        online.fitting_prompts(loaded, prompts, design.policy_fit, design.new_tokens)
    if design.policy_fit.lora_rank:
        _check_low_rank(design.policy_fit, "CAUSAL_LM", loaded.model, loaded.name)


def _check_texts(preferences: Preferences, tokenise: Tokenise, who: str, fit: Fit) -> None:
    for k, (prompt, first, second) in enumerate(
        zip(preferences.prompts, preferences.first, preferences.second, strict=True)
    ):
        pair = (first, second) if preferences.choice[k] > 0 else (second, first)
        if tokenise(prompt, *pair) is not None:
            return
    raise EmptyError(
        f"none of {len(preferences)} comparisons can {who} be trained on: they are longer than {fit.max_length} "
        "tokens, or than the model reads, or empty.",
        remedy="Raise --max-length.",
    )


def _check_low_rank(fit: Fit, task: str, model: object, name: str) -> None:
    try:
        get_peft_model(model, low_rank(fit, task, model))
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise JudgeError(
            f"low-rank changes to {shown(name)} cannot be made: {shown(str(error), 200)}. Use --lora 0."
        ) from error
