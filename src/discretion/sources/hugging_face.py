"""Hugging Face datasets, from the hub or a saved folder, as polars frames.

`datasets` is imported only here and only when asked for; code that a dataset brings along is never run.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl

from discretion.errors import DownloadError, ExtraError, ReadError, shown

_ADDRESS = re.compile(r"hf:(?P<name>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<config>[\w.-]+))?(?::(?P<split>[\w.\[\]%:-]+))?")


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ExtraError("hf", "reading a Hugging Face dataset") from error
    return datasets


def read_hub(address: str) -> pl.DataFrame:
    """Read `hf:org/name[@config][:split]`.

    Raises
    ------
    ReadError
        The address does not parse, or the dataset has several splits and none was named.
    DownloadError, ExtraError
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise ReadError(f"{shown(address)} is no dataset.", expected="hf:org/name, hf:org/name@config:split.")
    datasets = _datasets()
    try:
        data = datasets.load_dataset(found["name"], found["config"], split=found["split"])
    except Exception as error:  # it raises whatever its many transports and parsers raise
        raise DownloadError(
            f"{address}: the dataset could not be loaded: {type(error).__name__}: {shown(str(error), 300)} "
            "Check its name, config and split, and the connection; or save it elsewhere with save_to_disk "
            "and name that folder."
        ) from error
    return _frame(data, address)


def read_saved(folder: Path) -> pl.DataFrame:
    """Read a folder that `Dataset.save_to_disk` wrote (of a dictionary of splits: the only one)."""
    if not any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        raise ReadError(
            "is a folder, and not one that Hugging Face's save_to_disk wrote.",
            expected="a file, or a folder with state.json or dataset_dict.json.",
            path=folder,
        )
    datasets = _datasets()
    try:
        data = datasets.load_from_disk(str(folder))
    except Exception as error:  # corrupt Arrow and JSON raise many kinds
        raise ReadError(
            f"is a saved dataset that does not load: {type(error).__name__}: {shown(str(error), 300)}.",
            path=folder,
        ) from error
    return _frame(data, str(folder))


def _frame(data: Any, path: str) -> pl.DataFrame:
    if hasattr(data, "keys"):  # a dictionary of splits
        splits = list(data.keys())
        if len(splits) != 1:
            raise ReadError(
                f"has the splits {', '.join(splits)}.",
                expected="one split.",
                remedy=f"Name it: {path}:{splits[0]}." if path.startswith("hf:") else "Name the split's own folder.",
                path=path,
            )
        data = data[splits[0]]
    frame = data.to_polars()
    if not isinstance(frame, pl.DataFrame):
        raise ReadError("does not come as a table.", path=path)
    return frame
