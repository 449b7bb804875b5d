"""A policy on this machine: the log-probability of each response given its prompt, also relative to a reference.

Prompt and response are tokenised together, as a model is trained on them; the response begins with the first token that
the prompt alone would not have. With a chat template what ends the assistant's turn counts as part of the response.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from discretion.errors import ExtraError, JudgeError
from discretion.judges.asking import OK, Block, Stop, digest
from discretion.judges.local import TOO_LONG
from discretion.judges.models import LoadedModel
from discretion.judges.prefix import SharedPrefix, shared_length
from discretion.judges.rendering import Rendering
from discretion.judges.scoring import DeliverScores, Outcome, Response, responses_of, score_all

try:
    import torch
except ModuleNotFoundError as error:
    raise ExtraError("local", "Running a model on this machine") from error

_WINDOW = 16  # batches that are drawn together
_PIECE = 128  # positions whose logits are made into probabilities at a time
_PAYS = 0.25  # share of all tokens that a shared prompt must save


class Policy:
    """Scores responses by how probable a causal language model finds them.

    Parameters
    ----------
    model : LoadedModel
    reference : LoadedModel, optional
        Its own tokenizer and chat template are used for it.
    batch : int
        Responses at a time at the most; fewer where memory is short.
    """

    def __init__(self, model: LoadedModel, reference: LoadedModel | None = None, *, batch: int = 8) -> None:
        self.model, self.reference = model, reference
        self._batch = max(batch, 1)
        self._own = _Likelihood(model, self._batch)
        self._other = None if reference is None else _Likelihood(reference, self._batch)

    @property
    def name(self) -> str:
        """What people call it."""
        return f"policy:{self.model.name}"

    @property
    def identity(self) -> Mapping[str, object]:
        """What can change a score."""
        about: dict[str, object] = {"kind": "policy", "prompt": self._own.rendering.form, **self.model.identity}
        if self.reference is not None and self._other is not None:
            about["reference"] = {"prompt": self._other.rendering.form, **self.reference.identity}
        return about

    def run(self, blocks: Iterable[Block], deliver: DeliverScores, stop: Stop) -> None:
        """Score every response once.

        The values are `logp`, the sum over the response's tokens in natural logarithms, `n_tokens`, how many these are,
        and with a reference `ref_logp`, its sum.
        """
        responses = responses_of(blocks, digest(dict(self.identity)))
        score_all(responses, self._evaluate, deliver, stop, window=_WINDOW * self._batch)

    def _evaluate(self, responses: list[Response]) -> Iterator[list[tuple[Response, Outcome]]]:
        prompts: dict[str | None, list[Response]] = {}
        for response in responses:
            prompts.setdefault(response.prompt, []).append(response)
        ahead = [r for alike in prompts.values() for r in alike]
        while ahead:  # responses to one prompt stand together, so that a batch holds all of them or its end
            count = self._batch
            while count < len(ahead) and count > 1 and ahead[count - 1].prompt == ahead[count].prompt:
                count -= 1
            count = count if count > 1 else self._batch
            now, ahead = ahead[:count], ahead[count:]
            outcomes = self._own.outcomes(now)
            if self._other is not None:
                sound = [k for k, outcome in enumerate(outcomes) if outcome.status == OK]
                for k, other in zip(sound, self._other.outcomes([now[k] for k in sound]), strict=True):
                    outcomes[k] = _relative(outcomes[k], other)
            yield list(zip(now, outcomes, strict=True))


class _Likelihood:
    """Log-probabilities from one model."""

    def __init__(self, model: LoadedModel, batch: int) -> None:
        self.rendering = Rendering(model.tokenizer)
        self._model = model
        self._runner = SharedPrefix(model, rows=batch)
        self._plain = SharedPrefix(model, rows=batch, share=False)
        tokenizer = model.tokenizer
        self._begin = next((i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None), None)

    def outcomes(self, responses: Sequence[Response]) -> list[Outcome]:
        """Return the outcome of each response."""
        found: list[Outcome] = [Outcome()] * len(responses)
        ready: dict[int, tuple[list[int], int]] = {}
        for k, response in enumerate(responses):
            try:
                ids, start = self.split(response)
            except JudgeError:
                found[k] = Outcome(status="chat template failed")
                continue
            if self._model.context is not None and len(ids) > self._model.context:
                found[k] = Outcome(status=TOO_LONG, tokens=len(ids))
            elif start == len(ids):
                found[k] = Outcome(status="empty", tokens=len(ids))
            elif start == 0:
                found[k] = Outcome(status="no prompt", tokens=len(ids))
            else:
                ready[k] = ids, start
        groups: dict[str | None, list[int]] = {}
        for k in ready:
            groups.setdefault(responses[k].prompt, []).append(k)
        rest: list[int] = []
        for alike in groups.values():
            if self._pays([ready[k] for k in alike]):
                self._run(self._runner, alike, ready, found)
            else:
                rest += alike
        self._run(self._plain, rest, ready, found)
        return found

    def split(self, response: Response) -> tuple[list[int], int]:
        """Return the tokens of prompt and response, and where the response begins."""
        prompt, answer = self.rendering.prompt_and_response(response.prompt, response.text)
        alone, ids = self.rendering.tokens([prompt, prompt + answer])
        start = 0
        for a, b in zip(alone, ids, strict=False):
            if a != b:
                break
            start += 1
        if start == 0 and ids and self._begin is not None:  # the first token has a probability only behind another
            return [self._begin, *ids], 1
        return ids, start

    def _pays(self, alike: Sequence[tuple[list[int], int]]) -> bool:
        sequences = [ids for ids, _ in alike]
        if len(sequences) < 2 or not self._runner.shares:
            return False
        saved = shared_length(sequences, [(start - 1, len(ids) - 1) for ids, start in alike]) * (len(alike) - 1)
        return saved >= _PAYS * sum(map(len, sequences))

    def _run(
        self, runner: SharedPrefix, which: Sequence[int], ready: Mapping[int, tuple[list[int], int]],
        found: list[Outcome],
    ) -> None:  # fmt: skip
        sequences = [ready[k][0] for k in which]
        spans = [(ready[k][1] - 1, len(ready[k][0]) - 1) for k in which]

        def take(row: int, logits: Any) -> Any:
            start, stop = spans[row]
            targets = torch.tensor(sequences[row][start + 1 : stop + 1], device=logits.device)
            total = torch.zeros((), dtype=torch.float64, device=logits.device)
            for piece, wanted in zip(logits.split(_PIECE), targets.split(_PIECE), strict=True):
                p = torch.log_softmax(piece.float(), dim=-1)
                total += p.gather(1, wanted[:, None]).double().sum()
            return total

        for k, total in zip(which, runner.run(sequences, spans, take), strict=True):
            ids, start = ready[k]
            if total is None:
                found[k] = Outcome(status="out of memory", tokens=len(ids))
            elif not math.isfinite(total.item()):
                found[k] = Outcome(status="not a number", tokens=len(ids))
            else:
                values = {"logp": total.item(), "n_tokens": float(len(ids) - start)}
                found[k] = Outcome(values, tokens=len(ids))


def _relative(outcome: Outcome, reference: Outcome) -> Outcome:
    if reference.status != OK:
        return Outcome(status=f"reference: {reference.status}", tokens=outcome.tokens)
    return Outcome({**outcome.values, "ref_logp": reference.values["logp"]}, tokens=outcome.tokens)
