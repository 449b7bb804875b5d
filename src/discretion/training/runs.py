"""A training run in its folder: what it was asked for, where it stands, and the plain model that it leaves.

A checkpoint counts only once all of it is written, so that a run killed at any moment resumes to the same weights.
What one process does to random states elsewhere in it is undone; several processes cannot share a folder.
"""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import random
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from discretion.errors import ExtraError, ReadError, StudyError, shown
from discretion.folder_lock import alone
from discretion.judges.models import fingerprint
from discretion.training.fitting import Fit, Fitted, Report
from discretion.training.pairwise import Term
from discretion.training.start import CHECKPOINTS, device

try:
    import torch
    from transformers import PrinterCallback, TrainerCallback
    from transformers.utils import logging as transformers_logging
except ModuleNotFoundError as error:
    raise ExtraError("train", "Training a model") from error

FIT = "fit.json"
"""The file beside a model that says how it was trained; a model without results in it is not finished."""

_COMPLETE = "complete.json"
_IMMATERIAL = ("device", "save_every", "recompute")  # they change rounding, time and memory
_FIGURES = ("loss", "accuracy", "margin", "discretion", "reward")
_LIBRARIES = ("discretion", "torch", "transformers", "trl", "peft", "accelerate")


@dataclass(frozen=True)
class Prepared:
    """A trainer that is ready to run.

    Parameters
    ----------
    trainer
        As transformers has them.
    left_out : int
        What is not trained on.
    term : Term, optional
        The discretion loss, whose memory is part of a checkpoint.
    """

    trainer: Any
    left_out: int
    term: Term | None = None


def identity(model: str | Path) -> str:
    """Return what stands for a model in fit.json: the fingerprint of a folder's files, or a name on the hub."""
    path = Path(model).expanduser()
    return fingerprint(path) if path.is_dir() else str(model)


def _name(model: str | Path) -> str:
    path = Path(model).expanduser()
    return path.resolve().name if path.is_dir() else str(model)


def run(
    folder: str | Path,
    settings: Mapping[str, object],
    fit: Fit,
    prepare: Callable[[Path], Prepared],
    report: Report | None = None,
    **models: str | Path,
) -> Fitted:
    """Train in a folder, from its last checkpoint where there is one; return at once where the model is finished.

    Parameters
    ----------
    folder : path
        New, empty, or of the same run.
    settings : mapping
        All that can change the model beside `fit`, as JSON.
    prepare : callable
        Given the folder, makes the trainer; called only if there is something to train.
    report : callable, optional
    models : path or str
        What it is made from, by role. Their `identity` is a setting; their names are only noted.

    Raises
    ------
    StudyError
        The folder belongs to something else, to other settings, or to somebody who trains in it now.
    ReadError
        Its fit.json is broken.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    material = {k: v for k, v in asdict(fit).items() if k not in _IMMATERIAL}
    made_of = {role: identity(model) for role, model in models.items()}
    asked = json.loads(json.dumps({**settings, **made_of, "fit": material}, allow_nan=False))
    with alone(folder) as free:
        if not free:
            raise StudyError(f"somebody trains in {shown(folder.name)} now. Wait for them, or name another folder.")
        there = _read(folder)
        if there is not None and there["settings"] != asked:
            raise StudyError(_differs(folder, there["settings"], asked))
        if there is not None and there["result"] is not None:
            return _fitted(folder, there["result"], resumed=True)
        record = {
            "settings": asked,
            "models": {role: _name(model) for role, model in models.items()},
            "versions": {name: version(name) for name in _LIBRARIES},
            "device": device(fit),
            "result": None,
        }
        with _own_randomness(), quiet():
            prepared = prepare(folder)
            _write(folder / FIT, record)  # not before: what cannot be trained takes no folder
            result, resumed = _train(folder, prepared, report)
            del prepared
            release()
        _write(folder / FIT, {**record, "result": result})
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    return _fitted(folder, result, resumed=resumed)


def _train(folder: Path, prepared: Prepared, report: Report | None) -> tuple[dict[str, Any], bool]:
    trainer = prepared.trainer
    checkpoint = _last_checkpoint(folder / CHECKPOINTS)
    ledger = _Ledger(prepared, checkpoint, report)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(ledger)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    model = trainer.accelerator.unwrap_model(trainer.model)
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    model.config.get_text_config().use_cache = True  # turned off to train
    model.save_pretrained(folder)
    trainer.processing_class.save_pretrained(folder)
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    tail = history[-max(len(history) // 10, 1) :]
    seconds = ledger.seconds()
    result = {
        "steps": trainer.state.global_step,
        "seconds": seconds,
        "discretion_seconds_share": ledger.discretion_seconds() / seconds if seconds else 0.0,
        "left_out": prepared.left_out,
        **{name: _mean(tail, name) for name in ("loss", "accuracy", "reward")},
    }
    return result, checkpoint is not None


class _Ledger(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Completes each checkpoint with what the trainer does not know of, and tells how far it is."""

    def __init__(self, prepared: Prepared, checkpoint: Path | None, report: Report | None) -> None:
        self._prepared, self._report = prepared, report
        self._before, self._spent_before = 0.0, 0.0
        if checkpoint is not None:
            said = json.loads((checkpoint / _COMPLETE).read_text())
            self._before, self._spent_before = said["seconds"], said["discretion_seconds"]
            if prepared.term is not None:
                memory = {name: torch.tensor(values) for name, values in said["discretion"].items()}
                prepared.term.loss.load_state_dict(memory)
        self._begun = time.perf_counter()

    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._begun

    def discretion_seconds(self) -> float:
        return self._spent_before + (self._prepared.term.seconds if self._prepared.term else 0.0)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        term = self._prepared.term
        memory = {} if term is None else {name: t.tolist() for name, t in term.loss.state_dict().items()}
        said = {"seconds": self.seconds(), "discretion_seconds": self.discretion_seconds(), "discretion": memory}
        _write(Path(args.output_dir) / f"checkpoint-{state.global_step}" / _COMPLETE, said)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        if self._report is not None and logs is not None and "loss" in logs:
            figures = {name: float(logs[name]) for name in _FIGURES if name in logs}
            self._report(state.global_step, state.max_steps, figures)


def _last_checkpoint(folder: Path) -> Path | None:
    """Return the last complete checkpoint; what was being written when a run was killed is removed."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
    for path in [p for p in found if not (p / _COMPLETE).is_file()]:
        shutil.rmtree(path)
        found.remove(path)
    return found[-1] if found else None


def release() -> None:
    """Give the memory of a model or trainer back, which holds on to itself, before another model is loaded."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextlib.contextmanager
def _own_randomness() -> Iterator[None]:
    """Keep the seeds that trainers set to themselves."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - it is the state that they set
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bars and logs off the terminal: what matters is raised or reported.

    So are deprecations, which the libraries hold against each other, and what peft says of layers that it passes over.
    """
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            for kind in (FutureWarning, DeprecationWarning):
                warnings.simplefilter("ignore", kind)
            warnings.filterwarnings("ignore", module=r"peft\.")
            yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def _read(folder: Path) -> dict[str, Any] | None:
    path = folder / FIT
    if not path.is_file():
        others = sorted({p.name for p in folder.iterdir()} - {CHECKPOINTS, FIT + ".part"})
        if others:
            raise StudyError(
                f"{shown(folder.name)} holds {shown(others[0])} and no {FIT}: it is not a run of ours. "
                "Name a new folder."
            )
        return None
    try:
        said = json.loads(path.read_text())
        return {"settings": dict(said["settings"]), "result": said["result"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ReadError(f"is broken: {shown(str(error))}.", remedy="Remove its folder.", path=path) from error


def _write(path: Path, value: object) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=1))
    os.replace(part, path)


def _differs(folder: Path, there: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
        return {**{f"fit.{k}": v for k, v in settings.get("fit", {}).items()}, **settings, "fit": None}

    a, b = flat(there), flat(asked)
    name = next(k for k in {**a, **b} if a.get(k) != b.get(k))
    return (
        f"{shown(folder.name)} was trained with other settings: {name} is {shown(a.get(name))} there and "
        f"{shown(b.get(name))} here. Name another folder, or remove this one."
    )


def _fitted(folder: Path, result: Mapping[str, Any], *, resumed: bool) -> Fitted:
    values: dict[str, Any] = {name: math.nan if value is None else value for name, value in result.items()}
    return Fitted(folder=folder, resumed=resumed, **values)


def _mean(entries: list[dict[str, Any]], name: str) -> float | None:
    values = [entry[name] for entry in entries if name in entry]
    mean = sum(values) / len(values) if values else math.nan
    return mean if math.isfinite(mean) else None
