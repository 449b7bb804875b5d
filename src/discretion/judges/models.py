"""Models on this machine: loaded by name or folder, from safetensors alone, without code that comes with them.

A model's identity says which weights answered: the commit where a hub knows one, else a fingerprint of the files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from discretion.errors import ExtraError, JudgeError, ReadError, StudyError, shown
from discretion.judges.reward_head import ARCHITECTURE, last_token_class

try:
    import torch
    import transformers
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, StrictDataclassError
    from safetensors import SafetensorError
    from transformers.utils import logging as transformers_logging
except ModuleNotFoundError as error:
    raise ExtraError("local", "Running a model on this machine") from error

KINDS = ("causal", "score")
"""What a model is loaded as: a language model, or a classifier with one output."""

DTYPES = ("auto", "bfloat16", "float16", "float32")
"""Number formats; "auto" is the one that the weights are in."""

_WORDS = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "vocab.txt", "merges.txt", "chat_template.jinja", "chat_template.json",
)  # fmt: skip
_FETCHED = ["*.safetensors", "*.json", "*.txt", "*.jinja", "*.model"]
_STRETCH = 4096  # bytes of a tensor, at its beginning, middle and end, that its fingerprint covers
_WHOLE = 1 << 16  # tensors up to so many bytes are covered whole
_MOST_HEADER = 100_000_000  # as the format allows
_CANNOT_LOAD = (
    OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError, SafetensorError,
    StrictDataclassError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is ready to run, with its tokenizer.

    Parameters
    ----------
    name : str
        Its name on the hub, or the last part of its folder's path.
    revision : str
        The commit, or a fingerprint of the folder; see `fingerprint`.
    dtype, device : str
    model, tokenizer
        As transformers loads them; the model does not train.
    remote_code : bool
        Whether code that came with the model was allowed to run.
    """

    name: str
    revision: str
    dtype: str
    device: str
    model: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    remote_code: bool = False

    @property
    def identity(self) -> dict[str, object]:
        """What can change its answers; not the device, which changes them by rounding only."""
        return {"model": self.name, "revision": self.revision, "dtype": self.dtype, "remote_code": self.remote_code}

    @property
    def context(self) -> int | None:
        """How many tokens it can read; None where its configuration does not say."""
        most = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return most if isinstance(most, int) and most > 0 else None


def load(
    name_or_path: str | Path,
    *,
    kind: str = "causal",
    revision: str | None = None,
    dtype: str = "auto",
    device: str | None = None,
    remote_code: bool = False,
) -> LoadedModel:
    """Load a model and its tokenizer.

    Parameters
    ----------
    name_or_path : str or Path
        A folder, or a name on the hub: only the files that are needed are fetched, none of them a pickle.
    kind : str
        One of `KINDS`.
    revision : str, optional
        A branch, a tag or a commit of the hub.
    dtype : str
        One of `DTYPES`.
    device : str, optional
        As torch names it; by default "cuda" where there is one, else "cpu".
    remote_code : bool
        Whether Python files that come with the model may run.

    Returns
    -------
    LoadedModel

    Raises
    ------
    StudyError
        A setting is none, or the model has more than one output (`kind="score"`).
    JudgeError
        There is no such model, it has no safetensors, weights of it are missing, or it needs code of its own.
    ReadError
        A file of weights is broken.
    """
    if kind not in KINDS or dtype not in DTYPES:
        raise StudyError(f"kind {shown(kind)}, dtype {shown(dtype)}. Expected one of {KINDS} and one of {DTYPES}.")
    device = device_of(device)
    folder, name, commit = _folder(name_or_path, revision, remote_code)
    _check(folder, name)
    settings = {"trust_remote_code": remote_code, "local_files_only": True}
    with _quiet():
        try:
            config = transformers.AutoConfig.from_pretrained(folder, **settings)
            if kind == "score":
                _one_output(config, name)
            made: Any = transformers.AutoModelForCausalLM
            if kind == "score":
                ours = ARCHITECTURE in (config.architectures or ())
                made = last_token_class(config) if ours else transformers.AutoModelForSequenceClassification
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **settings)
            model, about = made.from_pretrained(
                folder, config=config, dtype=dtype if dtype == "auto" else getattr(torch, dtype),
                use_safetensors=True, output_loading_info=True, **settings,
            )  # fmt: skip
        except StudyError:
            raise
        except _CANNOT_LOAD as error:
            raise JudgeError(_why(name, error, remote_code)) from error
    missing = sorted(about["missing_keys"])
    if missing:  # transformers fills them with noise, and says so in a log
        wanted = "a language model" if kind == "causal" else "a reward model (a classifier with one output)"
        raise JudgeError(
            f"the model {shown(name)} lacks {len(missing)} weights, {shown(missing[0])} first. Expected {wanted}."
        )
    _route_silently(model.config)
    model = model.to(device).eval().requires_grad_(False)
    number = str(model.dtype).removeprefix("torch.")
    return LoadedModel(name, commit or fingerprint(folder), number, device, model, tokenizer, remote_code)


def outline(name_or_path: str | Path) -> LoadedModel:
    """Return a language model's configuration and tokenizer around a model without weights, on torch's meta device.

    Enough to say what can be done with the model, at no cost.

    Raises
    ------
    JudgeError
        As `load`, or a model of this kind cannot be built.
    """
    folder, name, commit = _folder(name_or_path, None, False)
    _check(folder, name)
    settings = {"trust_remote_code": False, "local_files_only": True}
    with _quiet():
        try:
            config = transformers.AutoConfig.from_pretrained(folder, **settings)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **settings)
            with torch.device("meta"):
                model = transformers.AutoModelForCausalLM.from_config(config)
        except _CANNOT_LOAD as error:
            raise JudgeError(_why(name, error, False)) from error
    return LoadedModel(name, commit, str(model.dtype).removeprefix("torch."), "meta", model, tokenizer)


def fingerprint(folder: Path) -> str:
    """Return 32 hexadecimal digits that stand for the model in a folder.

    Configuration and tokenizer count whole; of the weights the headers, sizes and stretches of every tensor (all of a
    small one), so that two checkpoints of one architecture differ and 16 GB need not be read twice.

    Raises
    ------
    ReadError
        A file of weights is broken.
    """
    made = hashlib.blake2b(digest_size=16)
    others = [*sorted(p.name for p in folder.glob("*.model")), *sorted(p.name for p in folder.glob("*.py"))]
    for name in [*_WORDS, *others]:
        if (folder / name).is_file():
            _add(made, name.encode(), (folder / name).read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        _add(made, path.name.encode(), str(size).encode())
        with path.open("rb") as file:
            begin, header = _header(path, file, size)
            _add(made, json.dumps(header, sort_keys=True).encode())
            for tensor, about in sorted(header.items()):
                if tensor != "__metadata__":
                    first, end = about["data_offsets"]
                    for at, length in _stretches(begin + first, end - first):
                        file.seek(at)
                        _add(made, file.read(length))
    return made.hexdigest()


def _add(made: hashlib.blake2b, *parts: bytes) -> None:
    for part in parts:
        made.update(len(part).to_bytes(8, "little"))
        made.update(part)


def _stretches(start: int, length: int) -> Iterator[tuple[int, int]]:
    if length <= _WHOLE:
        yield start, length
        return
    for at in (0, (length - _STRETCH) // 2, length - _STRETCH):
        yield start + at, _STRETCH


def _header(path: Path, file: Any, size: int) -> tuple[int, Mapping[str, Any]]:
    """Return where the tensors begin, and the header: where each is."""
    try:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length)) if 2 <= length <= min(size - 8, _MOST_HEADER) else {}
        ends = [about["data_offsets"][1] for name, about in header.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ReadError(f"is no safetensors file: {shown(str(error))}.", path=path) from error
    if max(ends, default=0) + 8 + length != size:
        raise ReadError("is no whole safetensors file: it is cut short, or has more than its header says.", path=path)
    return 8 + length, header


def device_of(given: str | None) -> str:
    """Return where a model is to run: what was given, or "cuda" where there is one, else "cpu".

    Raises
    ------
    StudyError
        Torch knows no such device.
    JudgeError
        It is not here.
    """
    if not given:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(given)
    except RuntimeError as error:
        raise StudyError(f"there is no device {shown(given)}. Expected cpu, cuda or cuda:0.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise JudgeError(f"the device is {given}, and torch sees none. Use cpu, or install torch for CUDA.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise JudgeError(f"the device is {given}, and torch sees {torch.cuda.device_count()}, counted from cuda:0.")
    return given


def _route_silently(config: Any) -> None:
    """Turn off that a mixture of experts returns how it routes, which breaks off when it generates with a cache.

    Trainers ask for it by themselves, call by call.
    """
    text = config.get_text_config()
    if getattr(text, "output_router_logits", False):
        text.output_router_logits = False


def _folder(given: str | Path, revision: str | None, remote_code: bool) -> tuple[Path, str, str]:
    """Return the folder with the files, the model's name, and the commit where there is one."""
    path = Path(given).expanduser()
    if path.is_dir():
        if revision is not None:
            raise StudyError(f"{path.name} is a folder and has no revision {shown(revision)}. Leave the revision out.")
        return path, path.resolve().name, ""
    name = str(given)
    if isinstance(given, Path) or name.startswith((".", "/", "~")) or name.count("/") > 1 or os.sep * 2 in name:
        raise JudgeError(f"there is no folder {shown(name)}. Expected a folder with a model, or a name on the hub.")
    patterns = [*_FETCHED, "*.py"] if remote_code else _FETCHED
    try:
        # Sub-folders and consolidated files hold the same weights once more, in other forms.
        found = snapshot_download(
            name, revision=revision, allow_patterns=patterns, ignore_patterns=["*/*", "consolidated*"]
        )
    except (OSError, ValueError, HFValidationError) as error:
        why = shown(str(error).strip().split("\n", 1)[0], 200)
        raise JudgeError(f"the model {shown(name)} was not found: {why}. Check its name, or give a folder.") from error
    return Path(found), name, Path(found).name


def _check(folder: Path, name: str) -> None:
    """Refuse what would be loaded from elsewhere, or from pickles."""
    if (folder / "adapter_config.json").is_file():
        raise JudgeError(f"{shown(name)} holds an adapter. Merge it into its model, save that, and name the result.")
    if not (folder / "config.json").is_file():
        raise JudgeError(f"{shown(name)} holds no model: there is no config.json.")
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(p.name for suffix in ("bin", "pt", "pth", "ckpt") for p in folder.glob(f"*.{suffix}"))
        has = f"It has {shown(pickles[0])}, a pickle, which may run code when it is loaded. " if pickles else ""
        raise JudgeError(f"{shown(name)} has no weights in safetensors. {has}Save the model with save_pretrained().")


def _one_output(config: Any, name: str) -> None:
    if config.num_labels != 1:
        raise StudyError(
            f"{shown(name)} has {config.num_labels} outputs. Expected one, the reward. Use a reward model with a "
            "single output, or compute the score yourself and give it as a file with reward_a and reward_b."
        )


def _why(name: str, error: BaseException, remote_code: bool) -> str:
    first = shown(next((line for line in str(error).splitlines() if line.strip()), type(error).__name__), 200)
    if "trust_remote_code" in str(error) and not remote_code:
        return (
            f"{shown(name)} needs Python code that comes with it, and none was run. Read that code, then allow it, or "
            "use a model that transformers knows."
        )
    return f"{shown(name)} cannot be loaded: {first}."


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' progress bars and logs off the terminal: what matters is raised."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
