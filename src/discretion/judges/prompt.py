"""Prompts: templates are data, and what strangers wrote stands behind a fence that it can neither know nor close.

The comparison comes first and the question last, so that all questions of a comparison share a prefix, which endpoints
compute and bill once.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from discretion.comparison import content_id
from discretion.errors import ReadError, StudyError, shown
from discretion.judges.asking import GENERIC, Ask, Block, digest
from discretion.judges.templates import BUILT_IN
from discretion.study_file import nearest

Message = dict[str, str]

_NO_PROMPT = "(The conversation so far is not known.)"
_PLACES = {
    "system": ("{fence}",),
    "comparison": ("{fence}", "{prompt}", "{shown_first}", "{shown_second}"),
    "question": ("{principle}", "{principles}"),
    "generic": (),
}
_NEEDED = {"comparison": ("{fence}", "{prompt}", "{shown_first}", "{shown_second}"), "system": ("{fence}",)}


@dataclass(frozen=True, slots=True)
class Template:
    """The words that a judge is given.

    Parameters
    ----------
    name : str
    form : str
        "single": a question a call; "joint": all questions of a comparison in one call.
    system : str
        Says what is to be done, and that what stands behind `{fence}` is data.
    comparison : str
        With `{fence}`, `{prompt}`, `{shown_first}`, `{shown_second}`.
    question : str
        With `{principle}`, or in the joint form `{principles}`, a numbered list.
    generic : str
        The question that names no principle.
    question_last : bool
        Whether the question stands behind the comparison; the published order has it in front.
    labels : tuple of str
        What the answers are called: the response shown first, the one shown second, neither.
    """

    name: str
    form: str
    system: str
    comparison: str
    question: str
    generic: str
    question_last: bool = True
    labels: tuple[str, str, str] = ("A", "B", "N")

    def __post_init__(self) -> None:
        if self.form not in ("single", "joint"):
            raise StudyError(f"template {shown(self.name)}: form is {shown(self.form)}. Expected single or joint.")
        place = "{principles}" if self.form == "joint" else "{principle}"
        for part, needed in {**_NEEDED, "question": (place,)}.items():
            for mark in needed:
                if mark not in getattr(self, part):
                    raise StudyError(f"template {shown(self.name)}: {part} lacks {mark}.")
        if len({*self.labels}) != 3 or not all(label.strip() for label in self.labels):
            raise StudyError(f"template {shown(self.name)}: labels are {self.labels}. Expected three different ones.")

    @property
    def digest(self) -> str:
        """A hash of all its words; its name does not count."""
        words: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "name"}
        return digest({**words, "labels": list(self.labels)})


def load_template(name_or_path: str) -> Template:
    """Return a built-in template by name, or read one from a TOML file.

    Raises
    ------
    StudyError
        There is neither, or a part is missing.
    ReadError
        The file is not TOML.
    """
    if name_or_path in BUILT_IN:
        return Template(name_or_path, **BUILT_IN[name_or_path])
    path = Path(name_or_path)
    if path.suffix != ".toml" or not path.is_file():
        raise StudyError(
            f"there is no template {shown(name_or_path)}, nor a TOML file of that name. "
            f"{nearest(name_or_path, BUILT_IN)}"
        )
    try:
        given = tomllib.loads(path.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ReadError(f"is no template in TOML: {error}.", path=path) from error
    return _from_mapping(path, given)


def _from_mapping(path: Path, given: Mapping[str, Any]) -> Template:
    known = {f.name: f.type for f in fields(Template)}
    for key, value in given.items():
        if key not in known:
            raise StudyError(f"{path}: unknown key {shown(key)}. {nearest(key, known)}")
        if key == "labels":
            sound = isinstance(value, list) and len(value) == 3 and all(isinstance(v, str) for v in value)
        else:
            sound = isinstance(value, bool) if key == "question_last" else isinstance(value, str)
        if not sound:
            raise StudyError(f"{path}: {key} is {shown(value)}. Expected a text (labels: three of them).")
    missing = [n for n in ("form", "system", "comparison", "question", "generic") if n not in given]
    if missing:
        raise StudyError(f"{path}: the template lacks {', '.join(missing)}.")
    labels = tuple(given.get("labels", ("A", "B", "N")))
    return Template(**{"name": path.stem, **given, "labels": labels})


def fence(secret: bytes, content: str) -> str:
    """Return the mark around a comparison's texts: 16 hexadecimal digits that nobody can guess.

    The same for all questions of a comparison, so that they keep their shared prefix.

    Parameters
    ----------
    secret : bytes
        The study's own.
    content : str
        `comparison.content_id` of the texts.
    """
    return hashlib.blake2b(content.encode(), key=secret[:64], digest_size=8).hexdigest()


def messages(template: Template, block: Block, ask: Ask, secret: bytes) -> list[Message]:
    """Return the messages that ask one question of a comparison.

    Parameters
    ----------
    template : Template
        Of the single form.
    block : Block
    ask : Ask
    secret : bytes

    Returns
    -------
    list of {"role", "content"}
        A system message and a user's.
    """
    system, comparison = _shared(template, block, ask.order, secret)
    question = template.generic
    if ask.question.name != GENERIC or ask.question.text:
        question = _filled(template.question, {"{principle}": ask.question.text or ask.question.name})
    return _joined(template, system, comparison, question)


def joint_messages(
    template: Template, block: Block, asks: Sequence[Ask], secret: bytes
) -> tuple[list[Message], dict[str, Any]]:
    """Return the messages that ask all questions of a comparison in one order, and the JSON schema of the answer.

    Parameters
    ----------
    template : Template
        Of the joint form.
    asks : sequence of Ask
        Of one order.
    """
    system, comparison = _shared(template, block, asks[0].order, secret)
    listed = "\n".join(f"{k}. {ask.question.text or ask.question.name}" for k, ask in enumerate(asks, 1))
    numbers = [str(k) for k in range(1, len(asks) + 1)]
    schema = {
        "type": "object",
        "properties": {number: {"type": "string", "enum": list(template.labels)} for number in numbers},
        "required": numbers,
        "additionalProperties": False,
    }
    question = _filled(template.question, {"{principles}": listed})
    return _joined(template, system, comparison, question), schema


def prefix_length(a: Sequence[Message], b: Sequence[Message]) -> int:
    """Return how many leading characters two prompts share."""
    texts = ["\0".join(f"{m['role']}\0{m['content']}" for m in messages) for messages in (a, b)]
    shared = 0
    for one, other in zip(*texts, strict=False):
        if one != other:
            break
        shared += 1
    return shared


def _shared(template: Template, block: Block, order: int, secret: bytes) -> tuple[str, str]:
    """Return the system message and the fenced comparison, which all questions have in common."""
    texts = (block.prompt, block.first, block.second)
    mark = fence(secret, content_id(*texts))
    while any(mark in (text or "") for text in texts):  # one in 2**64, unless the secret is known
        mark = fence(secret, mark)
    shown_texts = (block.first, block.second) if order == 0 else (block.second, block.first)
    filled = {
        "{fence}": mark,
        "{prompt}": _NO_PROMPT if block.prompt is None else block.prompt,
        "{shown_first}": shown_texts[0],
        "{shown_second}": shown_texts[1],
    }
    return _filled(template.system, filled), _filled(template.comparison, filled)


def _joined(template: Template, system: str, comparison: str, question: str) -> list[Message]:
    parts = (comparison, question) if template.question_last else (question, comparison)
    return [{"role": "system", "content": system}, {"role": "user", "content": "\n\n".join(parts)}]


def _filled(text: str, values: Mapping[str, str]) -> str:
    """Fill the places of a template, each once: what is filled in is never looked at again."""
    found: list[str] = []
    rest = text
    while rest:
        at, mark = min(((rest.find(m), m) for m in values if m in rest), default=(-1, ""))
        if at < 0:
            break
        found += [rest[:at], values[mark]]
        rest = rest[at + len(mark) :]
    return "".join([*found, rest])
