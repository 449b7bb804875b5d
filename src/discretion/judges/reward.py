"""A reward model on this machine: a number for each response, from a classifier with one output.

Batches are padded so that the score cannot change: on the right, with a token that none of them holds where the
model has no padding token of its own.
"""

from __future__ import annotations

import contextlib
import gc
import math
from collections.abc import Iterable, Iterator, Mapping

from discretion.errors import ExtraError, JudgeError, StudyError, shown
from discretion.judges.asking import Block, Stop, digest
from discretion.judges.local import TOO_LONG
from discretion.judges.models import LoadedModel
from discretion.judges.rendering import Rendering
from discretion.judges.scoring import DeliverScores, Outcome, Response, responses_of, score_all

try:
    import torch
except ModuleNotFoundError as error:
    raise ExtraError("local", "Running a model on this machine") from error

_WINDOW = 16  # batches that are sorted by length together


class RewardModel:
    """Scores responses with a sequence classifier.

    With a chat template the model reads the prompt's turns and the response as the assistant's; without one the prompt,
    an empty line and the response, one after the other (see `Rendering.conversation`).

    Parameters
    ----------
    model : LoadedModel
        Loaded with `kind="score"`.
    batch : int
        Responses at a time at the most; halved, and kept so, where the device runs out of memory.

    Raises
    ------
    StudyError
        The model has not one output.
    """

    def __init__(self, model: LoadedModel, *, batch: int = 16) -> None:
        outputs = getattr(model.model.config, "num_labels", 0)
        if outputs != 1 or not type(model.model).__name__.endswith("ForSequenceClassification"):
            raise StudyError(f"{shown(model.name)} is no classifier with one output. Load it with kind='score'.")
        self.model = model
        self.batch = max(batch, 1)
        self._rendering = Rendering(model.tokenizer)
        self._config = model.model.config.get_text_config()
        self._padding = self._config.pad_token_id
        self._width = model.model.get_input_embeddings().weight.shape[0]

    @property
    def name(self) -> str:
        """What people call it."""
        return f"reward:{self.model.name}"

    @property
    def identity(self) -> Mapping[str, object]:
        """What can change a score."""
        return {"kind": "reward", "prompt": self._rendering.form, **self.model.identity}

    def run(self, blocks: Iterable[Block], deliver: DeliverScores, stop: Stop) -> None:
        """Score every response once; the value is `reward`."""
        responses = responses_of(blocks, digest(dict(self.identity)))
        score_all(responses, self._evaluate, deliver, stop, window=_WINDOW * self.batch)

    def _evaluate(self, responses: list[Response]) -> Iterator[list[tuple[Response, Outcome]]]:
        failed: list[tuple[Response, Outcome]] = []
        ready: list[tuple[Response, list[int]]] = []
        for response in responses:
            try:
                text = self._rendering.conversation(response.prompt, response.text)
            except JudgeError:
                failed.append((response, Outcome(status="chat template failed")))
                continue
            (ids,) = self._rendering.tokens([text], ended=True)
            if self.model.context is not None and len(ids) > self.model.context:
                failed.append((response, Outcome(status=TOO_LONG, tokens=len(ids))))
            elif not ids:
                failed.append((response, Outcome(status="empty", tokens=0)))
            else:
                ready.append((response, ids))
        if failed:
            yield failed
        ready.sort(key=lambda pair: -len(pair[1]))  # the longest first: memory fails early
        while ready:
            now = ready[: self.batch]
            try:
                scores = self._scores([ids for _, ids in now])
            except torch.OutOfMemoryError:
                scores = None
            if scores is None:  # outside of the handler, whose traceback holds on to the tensors
                gc.collect()
                if self.model.device.startswith("cuda"):
                    torch.cuda.empty_cache()
                if len(now) > 1:
                    self.batch = len(now) // 2
                    continue
                yield [(now[0][0], Outcome(status="out of memory", tokens=len(now[0][1])))]
            else:
                yield [(r, _outcome(x, len(ids))) for (r, ids), x in zip(now, scores, strict=True)]
            ready = ready[len(now) :]

    def _scores(self, sequences: list[list[int]]) -> list[float]:
        width = max(map(len, sequences))
        with self._padded(sequences) as pad, torch.inference_mode():
            ids = torch.tensor([s + [pad] * (width - len(s)) for s in sequences], device=self.model.device)
            mask = torch.tensor([[1] * len(s) + [0] * (width - len(s)) for s in sequences], device=self.model.device)
            found: list[float] = self.model.model(input_ids=ids, attention_mask=mask).logits[:, 0].double().tolist()
        return found

    @contextlib.contextmanager
    def _padded(self, sequences: list[list[int]]) -> Iterator[int]:
        """Give the token to pad with.

        Classifiers of decoders read the last token that is not padding. A model without a padding token scores what
        comes last, alone; in a batch it does the same with a token that occurs in none of the sequences.
        """
        if self._padding is not None:
            yield self._padding
            return
        used = {i for s in sequences for i in s}
        pad = next(i for i in range(self._width + 1) if i not in used)
        if pad == self._width:
            raise torch.OutOfMemoryError  # every token occurs: a smaller batch has one that does not
        self._config.pad_token_id = pad
        try:
            yield pad
        finally:
            self._config.pad_token_id = None


def _outcome(score: float, tokens: int) -> Outcome:
    if not math.isfinite(score):
        return Outcome(status="not a number", tokens=tokens)
    return Outcome({"reward": score}, tokens=tokens)
