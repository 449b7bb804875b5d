"""The files that arXiv 2502.10441 published for HH, found in a folder, and the figures it prints for them.

Read as the paper did, every judgement counted whatever its answer mass: a reproduction, not a recommendation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from discretion.comparison import Comparisons
from discretion.constitution import Constitution, built_in, load_constitution
from discretion.errors import ReadError, StudyError
from discretion.sources.annotators import load_annotator
from discretion.sources.comparisons import load_comparisons
from discretion.sources.files import LFS_POINTER
from discretion.sources.oracle import load_oracle
from discretion.table import Annotator, Exclusion, PreferenceTable

NAN = float("nan")


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One row of the paper's table for HH: bootstrap means and standard deviations, in per cent.

    Parameters
    ----------
    name : str
    arbitrariness, arbitrariness_sd : float
    discrepancy, discrepancy_sd : float
        To the human; NaN for the human.
    file : str
        The published file of its preferences; empty for the human.
    format : str
        As `load_annotator` calls it.
    """

    name: str
    arbitrariness: float
    arbitrariness_sd: float
    discrepancy: float
    discrepancy_sd: float
    file: str = ""
    format: str = ""


def _language_model(model: str, trained: str) -> str:
    return f"llm_preferences/LLM_rewards_model_with_NA-{model}_data_trained-{trained}_dataset_eval-hh-harmlesness.csv"


def _reward_model(model: str) -> str:
    return (
        f"reward_model_preferences/{model}_reward_model_trained_in-hh-harmlesness"
        "_evaluated_in-hh-harmlesness_partition-test.csv"
    )


_MOST_DOWNLOADED = (
    "reward_model_preferences/reward_preference_data_reward_model-most_downloaded_hh_in_dataset_hh_partition-None.csv"
)
_GENERIC = "llm_preferences/hh_test_generic_"

PUBLISHED: tuple[PublishedRow, ...] = (
    PublishedRow("human", 28.9, 1.3, NAN, NAN),
    PublishedRow("Llama-3 RM", 21.8, 1.2, 14.3, 4.8, _reward_model("Llama3-8B"), "reward"),
    PublishedRow("Mistral RM", 22.9, 1.3, 20.5, 5.8, _reward_model("Mistral7B"), "reward"),
    PublishedRow("most downloaded RM", 21.0, 1.7, 28.4, 6.0, _MOST_DOWNLOADED, "reward"),
    PublishedRow("GPT-4o", 0.65, 0.38, 35.1, 5.1, f"{_GENERIC}4ob.csv", "judge"),
    PublishedRow("DeepSeek V3", 15.6, 1.2, 52.8, 6.5, f"{_GENERIC}deepseekv3.csv", "judge"),
    PublishedRow("Claude Sonnet", 9.3, 1.1, 36.6, 6.0, f"{_GENERIC}sonnet3.5.csv", "judge"),
    PublishedRow("Llama-3 base", 66.1, 3.1, 69.0, 5.0, _language_model("Llama3-8B", "NaN"), "judge-tokens"),
    PublishedRow(
        "Llama-3 fine-tuned",
        67.3,
        6.3,
        71.2,
        4.3,
        _language_model("Llama3-8B", "hh-harmlesness"),
        "judge-tokens",
    ),
    PublishedRow("Mistral base", 7.99, 2.1, 39.1, 7.0, _language_model("Mistral", "NaN"), "judge-tokens"),
    PublishedRow(
        "Mistral fine-tuned",
        9.05,
        1.9,
        43.9,
        7.6,
        _language_model("Mistral", "hh-harmlesness"),
        "judge-tokens",
    ),
)
"""The published table for HH."""

PUBLISHED_STATES = {"consensus": 50.7, "conflict": 16.3, "indifference": 33.0}
"""The published shares of the agreement states for HH, in per cent."""

_COMPARISONS = ("harmless-base-test.jsonl.gz", "harmless-base/test.jsonl.gz", "test.jsonl.gz")
_ORACLE = "principle_specific_preferences/hh_test_seed_4ob.csv"
_PRINCIPLES = ("principles/ccai_seed.txt", "principles/ccai_seed_short.txt")


@dataclass(frozen=True)
class Published:
    """The HH study of the paper, as far as its files are there.

    Parameters
    ----------
    table : PreferenceTable
        "human" first, then the annotators of `PUBLISHED` whose files were found.
    comparisons : Comparisons
    missing : tuple of str
        Names of the published files that are not there.
    """

    table: PreferenceTable
    comparisons: Comparisons
    missing: tuple[str, ...] = ()


def published_hh(folder: str | Path) -> Published:
    """Load the HH study from a folder of the published files, flat or in their published folders.

    Raises
    ------
    StudyError
        The comparisons or the oracle are not there: nothing can be audited without them.
    DataError
        One of the files is broken.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ReadError("is no folder.", expected="the folder with the published files.", path=folder)
    comparisons_path, oracle_path = _require(folder, _COMPARISONS), _require(folder, (_ORACLE,))
    loaded = load_comparisons(comparisons_path)
    ids = loaded.comparisons.frame["id"]
    missing: list[str] = []
    constitution = _constitution(folder, missing)
    oracle = load_oracle(oracle_path, ids, constitution, minimum_mass=0.0)
    human = loaded.annotators[0] if loaded.annotators else Annotator("human", np.ones(ids.len(), np.int8))
    annotators: list[Annotator] = [human]
    exclusions: list[Exclusion] = [*loaded.notes, *oracle.exclusions]
    for row in PUBLISHED:
        if not row.file:
            continue
        path = _find(folder, row.file)
        if path is None:
            missing.append(row.file)
            continue
        found, notes = load_annotator(path, ids, name=row.name, format=row.format, minimum_mass=0.0)
        annotators.append(found[0])  # the judge; the policy that shares its file is not in the table
        exclusions += notes
    table = PreferenceTable(
        ids=ids,
        constitution=constitution,
        X=oracle.X,
        annotators=tuple(annotators),
        attributes=loaded.comparisons.attributes,
        oracle=oracle.votes,
        exclusions=tuple(exclusions),
    )
    return Published(table, loaded.comparisons, tuple(missing))


def _constitution(folder: Path, missing: list[str]) -> Constitution:
    texts, short = (_find(folder, name) for name in _PRINCIPLES)
    missing += [name for name, path in zip(_PRINCIPLES, (texts, short), strict=True) if path is None]
    return built_in() if texts is None else load_constitution(texts, short)


def _require(folder: Path, names: tuple[str, ...]) -> Path:
    found = next((path for name in names if (path := _find(folder, name)) is not None), None)
    if found is None:
        raise StudyError(
            f"{folder} has no {' or '.join(names)}, without which nothing can be audited. "
            "Fetch the public files with discretion.sources.download.download()."
        )
    return found


def _find(folder: Path, name: str) -> Path | None:
    """Return the file, laid out as published or flat, plain or gzip; None where it is but a pointer to it."""
    flat = Path(name).name
    places = [folder / name, folder / flat, folder / "hh" / flat]
    if name in _PRINCIPLES:  # beside a folder of the HH files alone
        places.append(folder.parent / name)
    for place in places:
        for candidate in (place, place.with_name(f"{place.name}.gz")):
            if candidate.is_file() and not _is_pointer(candidate):
                return candidate
    return None


def _is_pointer(path: Path) -> bool:
    # A clone of the repository without Git LFS holds these in place of the larger files.
    try:
        with path.open("rb") as file:
            return file.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError:
        return False  # it is there: whoever reads it says what is wrong with it
