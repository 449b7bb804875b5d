"""Where training starts: a base model with its weights free, low-rank changes to it, a device, a trainer's arguments.

What a trainer would choose by itself is set here, once for all of them, so that a run depends on its `Fit` alone.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from discretion.errors import ExtraError, StudyError, shown
from discretion.judges.models import LoadedModel, device_of, load
from discretion.training.fitting import Fit

try:
    from peft import LoraConfig
    from transformers import TrainingArguments
    from transformers.pytorch_utils import Conv1D
except ModuleNotFoundError as error:
    raise ExtraError("train", "Training a model") from error

CHECKPOINTS = "checkpoints"
"""The sub-folder that a trainer writes to; it is gone when a run is finished."""

_RECOMPUTE = next(  # its name before transformers 5.23 is the second
    name
    for name in ("activation_checkpointing", "gradient_checkpointing")
    if name in {field.name for field in fields(TrainingArguments)}
)


def load_base(base: str | Path, fit: Fit) -> LoadedModel:
    """Load a language model to be trained, with a padding token, all its weights free to change.

    Weights are held in float32, or in bfloat16 where they are frozen under low-rank changes and `fit.bf16` says so.

    Raises
    ------
    StudyError
        The tokenizer has neither a token to pad with nor one that ends a text.
    JudgeError, ReadError
        As `discretion.judges.models.load`.
    """
    loaded = load(base, dtype=_precision(fit), device=device(fit))
    settle(loaded)
    return loaded


def settle(loaded: LoadedModel) -> None:
    """Free a model's weights and give it a token to pad with: what ends a text, where it has none of its own.

    Raises
    ------
    StudyError
        There is neither.
    """
    tokenizer = loaded.tokenizer
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise StudyError(
                f"the tokenizer of {shown(loaded.name)} has neither a token to pad with nor one that ends a text. "
                "Set tokenizer.pad_token to a token that no text contains, and save it."
            )
        tokenizer.pad_token = tokenizer.eos_token
    loaded.model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    loaded.model.requires_grad_(True)


def low_rank(fit: Fit, task: str, model: Any) -> Any:
    """Return what peft needs for low-rank changes to every linear layer but the last; None where all weights change.

    Parameters
    ----------
    task : str
        "CAUSAL_LM", or "SEQ_CLS", whose new last layer is trained whole.
    model
        That they are for: GPT-2's kind of layers lie transposed, and peft warns where it is not told.
    """
    if not fit.lora_rank:
        return None
    return LoraConfig(
        r=fit.lora_rank, lora_alpha=2 * fit.lora_rank, lora_dropout=0.0, target_modules="all-linear", task_type=task,
        fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in model.modules()),
    )  # fmt: skip


def arguments(folder: Path, fit: Fit) -> dict[str, Any]:
    """Return the arguments that all trainers share."""
    return {
        "output_dir": str(folder / CHECKPOINTS),
        "num_train_epochs": fit.epochs,
        "per_device_train_batch_size": fit.batch,
        "gradient_accumulation_steps": fit.accumulate,
        "learning_rate": fit.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": fit.warmup,
        "seed": fit.seed,
        "bf16": fit.bf16,
        _RECOMPUTE: fit.recompute,
        "use_cpu": device(fit) == "cpu",
        "dataloader_pin_memory": device(fit) != "cpu",
        "remove_unused_columns": False,
        "logging_steps": 1,  # the history is part of a checkpoint, so that a resumed run has the same figures
        "logging_nan_inf_filter": False,  # a loss that is no number is said to be none
        "save_strategy": "steps",
        "save_steps": fit.save_every,
        "save_total_limit": 2,  # the last one may be incomplete
        "report_to": "none",
        "disable_tqdm": True,
        "disable_dropout": True,  # else a policy's ratio to itself is not 1, and online trainers keep it
    }


def one_device(arguments: Any) -> Any:
    """Return a trainer's arguments for one device, however many there are: trainers would spread batches over all."""
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments


def device(fit: Fit) -> str:
    """Return where to train, "cpu", "cuda" or "cuda:0".

    Raises
    ------
    StudyError
        It is none of these: trainers know the first device only.
    JudgeError
        It is not here.
    """
    kind, _, index = fit.device.partition(":")
    if kind not in ("", "cpu", "cuda"):
        raise StudyError(f"the device is {shown(fit.device)}. Expected cpu, cuda, or nothing for what there is.")
    found = device_of(fit.device)
    if kind == "cuda" and index not in ("", "0"):
        raise StudyError(
            f"the device is {shown(fit.device)}, and trainers use the first that they see. Set "
            f"CUDA_VISIBLE_DEVICES={index} in the environment, and name cuda."
        )
    return "cpu" if kind == "cpu" else found


def _precision(fit: Fit) -> str:
    return "bfloat16" if fit.bf16 and fit.lora_rank else "float32"
