"""A language model on this machine as a judge: the probabilities of the answers as its next token.

All questions of a comparison in one order share a prefix, which is run once; the questions follow as a batch on its
cache.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from discretion.errors import ExtraError, StudyError, shown
from discretion.judges.asking import OK, Ask, Block, Deliver, Judgement, Question, Stop
from discretion.judges.models import LoadedModel
from discretion.judges.prefix import SharedPrefix, shared_length
from discretion.judges.prompt import Template, messages
from discretion.judges.rendering import Rendering
from discretion.judges.reply import Answer, failed, from_top_logprobs, unswap

try:
    import torch
except ModuleNotFoundError as error:
    raise ExtraError("local", "Running a model on this machine") from error

_AT_ONCE, _AT_ONCE_CPU = 32, 4
_LONGEST_VARIANT = 24  # characters of a token that may still be an answer
TOO_LONG = "too long"
"""The status of what is longer than the model's context: nothing is ever cut off."""


class LocalJudge:
    """Asks a causal language model.

    Parameters
    ----------
    model : LoadedModel
    template : Template
        Of the single form.
    secret : bytes
        From which the fences around texts are derived.
    batch : int, optional
        Questions at a time at the most; fewer where memory is short. By default 4 on a CPU, whose caches hold no more
        copies of the prefix's keys and values (a third faster than 21 at a time), else 32.
    share : bool
        Whether to run the prefix of a comparison's questions once. Answers are the same up to rounding.

    Raises
    ------
    StudyError
        The template asks all questions in one call, or its labels cannot be told apart by their first token.
    """

    def __init__(
        self, model: LoadedModel, template: Template, secret: bytes, *, batch: int | None = None, share: bool = True
    ) -> None:
        if template.form != "single":
            raise StudyError(
                f"the template {shown(template.name)} asks all questions in one call, and a local judge reads one "
                "token. Expected one of the single form, such as standard."
            )
        self.model, self.template = model, template
        self._secret = secret
        self._rendering = Rendering(model.tokenizer)
        rows = batch or (_AT_ONCE_CPU if model.device == "cpu" else _AT_ONCE)
        self._runner = SharedPrefix(model, rows=rows, share=share)
        width = model.model.get_output_embeddings().weight.shape[0]
        self.variants = label_variants(model.tokenizer, template.labels, width)
        self._ids = [torch.tensor(found, device=model.device) for found in self.variants]

    @property
    def name(self) -> str:
        """What people call it."""
        return f"local:{self.model.name}"

    @property
    def identity(self) -> Mapping[str, object]:
        """What can change an answer."""
        about = {"kind": "local", "template": self.template.digest, "prompt": self._rendering.form}
        return {**about, **self.model.identity}

    @property
    def shares(self) -> bool:
        """Whether prefixes are run once; False as soon as the model's cache turned out not to allow it."""
        return self._runner.shares

    def run(self, blocks: Iterable[Block], deliver: Deliver, stop: Stop) -> None:
        """Ask everything, a comparison in one order at a time.

        Raises
        ------
        JudgeError
            The tokenizer's chat template fails.
        """
        for block in blocks:
            for order, asks in groupby(sorted(block.asks, key=lambda a: a.order), key=lambda a: a.order):
                if stop.is_set():
                    return
                deliver(self._ask(block, order, list(asks)))

    def _ask(self, block: Block, order: int, asks: Sequence[Ask]) -> list[Judgement]:
        begun = time.perf_counter()
        first: dict[Question, Ask] = {}
        for ask in asks:  # samples of a question have one answer: nothing is drawn
            first.setdefault(ask.question, ask)
        texts = [self._rendering.question(messages(self.template, block, a, self._secret)) for a in first.values()]
        prompts = self._rendering.tokens(texts)
        answers = dict(zip(first, self._answers(prompts), strict=True))
        tokens = dict(zip(first, map(len, prompts), strict=True))
        cached = dict(zip(first, self._cached(prompts), strict=True))
        seconds = (time.perf_counter() - begun) / len(asks)
        at = datetime.now(UTC).isoformat(timespec="seconds")
        return [
            Judgement(
                a.key, block.case, a.question.name, order, a.sample, *unswap(answers[a.question], order),
                status=answers[a.question].status, reply=answers[a.question].reply, tokens_in=tokens[a.question],
                tokens_cached=cached[a.question], tokens_out=0, cost=0.0, seconds=seconds, at=at,
            )
            for a in asks
        ]  # fmt: skip

    def _answers(self, prompts: Sequence[list[int]]) -> Iterator[Answer]:
        """Yield the answer of each prompt, in terms of what is shown."""
        context = self.model.context
        fits = [k for k, ids in enumerate(prompts) if context is None or len(ids) <= context]
        spans = [(len(prompts[k]) - 1, len(prompts[k])) for k in fits]
        found = dict(zip(fits, self._runner.run([prompts[k] for k in fits], spans, self._read), strict=True))
        rows = [row for row in found.values() if row is not None]
        read = iter(torch.stack(rows).tolist() if rows else ())  # one copy from the device for all
        for k in range(len(prompts)):
            if k not in found:
                yield failed(TOO_LONG)
            elif found[k] is None:
                yield failed("out of memory")
            else:
                first, second, neither, top = next(read)
                word = str(self.model.tokenizer.decode([int(top)]))
                if first + second + neither != first + second + neither:
                    yield failed("not a number")
                else:
                    yield Answer(first, second, neither, OK, word[:200])

    def _read(self, _: int, logits: Any) -> Any:
        """Return the probabilities of the answers, and the most probable token, float64 (4,)."""
        p = torch.softmax(logits[-1].double(), dim=-1)
        return torch.stack([*(p[ids].sum() for ids in self._ids), p.argmax().double()])

    def _cached(self, prompts: Sequence[list[int]]) -> list[int]:
        """Return how many tokens of each prompt were read before, with the first one's."""
        if not self.shares or len(prompts) < 2:
            return [0] * len(prompts)
        length = shared_length(prompts, [(len(ids) - 1, len(ids)) for ids in prompts])
        return [0, *[length] * (len(prompts) - 1)]


def label_variants(tokenizer: Any, labels: tuple[str, str, str], width: int) -> tuple[list[int], ...]:
    """Return the tokens that stand for each label, as replies of endpoints are read: "A", " A", "(A", "a".

    A label that is no single token is known by its first one.

    Parameters
    ----------
    tokenizer
        As transformers loads it.
    labels : three of them
    width : int
        Tokens that the model has logits for.

    Returns
    -------
    three lists of token ids, none empty, none in two of them

    Raises
    ------
    StudyError
        Two labels begin with the same token.
    """
    special = set(tokenizer.all_special_ids)
    ids = [i for i in range(min(len(tokenizer), width)) if i not in special]
    found: tuple[list[int], ...] = ([], [], [])
    for i, text in zip(ids, tokenizer.batch_decode([[i] for i in ids]), strict=True):
        if len(text) <= _LONGEST_VARIANT:
            sure = from_top_logprobs([(text, 0.0)], labels)
            if sure.status == OK:
                found[(sure.first, sure.second, sure.neither).index(1.0)].append(i)
    for k, label in enumerate(labels):
        if not found[k]:
            starts = {tokenizer(f"{space}{label}", add_special_tokens=False)["input_ids"][0] for space in ("", " ")}
            found[k].extend(sorted(i for i in starts if i < width and tokenizer.decode([i]).strip()))
    every = [i for some in found for i in some]
    if not all(found) or len(set(every)) < len(every):
        raise StudyError(
            f"the labels {', '.join(map(shown, labels))} cannot be told apart by their first token in this model. "
            "Expected three that begin differently, such as A, B and N: name a template that has them."
        )
    return found
