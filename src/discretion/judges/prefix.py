"""Runs token sequences through a language model: what they begin with in common once, the rest as a batch on its cache.

Sequences are padded on the right, where causal attention cannot see it: positions need no care, and every kind of cache
will do. Whether a model's cache does is tried on the first sequences, by asking two of them separately as well.
"""

from __future__ import annotations

import copy
import gc
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from discretion.errors import ExtraError
from discretion.judges.models import LoadedModel

try:
    import torch
    from transformers import DynamicCache
except ModuleNotFoundError as error:
    raise ExtraError("local", "Running a model on this machine") from error

T = TypeVar("T")
Span = tuple[int, int]
"""Positions of a sequence, from and to; the logits at a position are about the token behind it."""

_MOST_TOKENS = 32_768  # in one batch, cache included
_MOST_LOGITS = 1 << 27  # numbers in one batch's logits
_APART = {"float32": 1e-3, "float64": 1e-3}  # total variation at which a cache counts as wrong
_APART_HALF = 0.1
_CACHES = ("past_key_values", "cache")
"""What a model calls its cache: the second from transformers 5.24 on."""
_NO_CACHE = (TypeError, ValueError, AttributeError, NotImplementedError, IndexError, KeyError, RuntimeError)


class SharedPrefix:
    """Runs sequences through one language model.

    Parameters
    ----------
    loaded : LoadedModel
    rows : int
        Sequences in a batch at the most. Halved, and kept so, where the device runs out of memory.
    share : bool
        Whether to run what sequences have in common once.
    """

    def __init__(self, loaded: LoadedModel, *, rows: int = 32, share: bool = True) -> None:
        self.rows = max(rows, 1)
        self._loaded, self._model = loaded, loaded.model
        takes = inspect.signature(self._model.forward).parameters
        self._keeps = "logits_to_keep" in takes
        self._cache = next((name for name in _CACHES if name in takes), "")
        self.shares = share and bool(self._cache)
        self._tried = not self.shares

    def run(
        self, sequences: Sequence[Sequence[int]], spans: Sequence[Span], take: Callable[[int, Any], T]
    ) -> list[T | None]:
        """Run the sequences; of each, hand the logits in its span to `take`.

        Parameters
        ----------
        sequences : n sequences of token ids
        spans : n spans, none of them empty
        take : callable
            Given the sequence's index and its logits, a tensor (span, vocabulary) on the device.

        Returns
        -------
        list of n
            What `take` returned; None where the memory of the device does not hold the sequence.
        """
        with torch.inference_mode():
            length = shared_length(sequences, spans) if len(sequences) > 1 else 0
            if length == 0 or not self.shares:
                return self._batches(sequences, spans, take, None, 0)
            if not self._tried:
                self._try(sequences, spans, length)
                if not self.shares:
                    return self._batches(sequences, spans, take, None, 0)
            try:
                cache = self._prefix(sequences[0][:length])
            except torch.OutOfMemoryError:
                return [None] * len(sequences)
            return self._batches(sequences, spans, take, cache, length)

    def _try(self, sequences: Sequence[Sequence[int]], spans: Sequence[Span], length: int) -> None:
        """Find out whether answers on the cache are those without it, padding included."""
        order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
        two = [order[0], order[-1]]
        mine, ranges = [sequences[i] for i in two], [(spans[i][1] - 1, spans[i][1]) for i in two]
        self._tried = True
        try:
            cache = self._prefix(mine[0][:length])
            together = self._batch(mine, ranges, _probabilities, cache, length)
        except torch.OutOfMemoryError:
            self._tried = False  # says nothing of the cache
            return
        except _NO_CACHE:
            self.shares = False
            return
        limit = _APART.get(self._loaded.dtype, _APART_HALF)
        for k in range(2):
            (alone,) = self._batch(mine[k : k + 1], ranges[k : k + 1], _probabilities, None, 0)
            apart = (together[k] - alone).abs().sum(-1).max().item() / 2
            if not apart <= limit:  # NaN too
                self.shares = False

    def _prefix(self, tokens: Sequence[int]) -> Any:
        cache = DynamicCache(config=self._model.config)
        ids = torch.tensor([list(tokens)], device=self._loaded.device)
        more = {"logits_to_keep": 1} if self._keeps else {}
        out = self._model(
            input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True, **{self._cache: cache}, **more
        )
        kept = next((out[name] for name in _CACHES if name in out), None)
        if not isinstance(kept, DynamicCache) or kept.get_seq_length() != len(tokens):
            raise ValueError("this model keeps no cache of keys and values")
        return kept

    def _batches(
        self, sequences: Sequence[Sequence[int]], spans: Sequence[Span], take: Callable[[int, Any], T], cache: Any,
        length: int,
    ) -> list[T | None]:  # fmt: skip
        found: list[T | None] = [None] * len(sequences)
        # The widest first: where memory fails, it fails early.
        ahead = sorted(range(len(sequences)), key=lambda i: (-len(sequences[i]), i))
        while ahead:
            rows = self._fitting([sequences[i] for i in ahead[: self.rows]], [spans[i] for i in ahead[: self.rows]])
            now = ahead[:rows]
            try:
                made = self._batch([sequences[i] for i in now], [spans[i] for i in now], _at(now, take), cache, length)
            except torch.OutOfMemoryError:
                made = None
            if made is None:  # outside of the handler, whose traceback holds on to the tensors
                self._free()
                if rows > 1:
                    self.rows = rows // 2
                    continue
                made = [None]  # type: ignore[list-item]
            for i, value in zip(now, made, strict=True):
                found[i] = value
            ahead = ahead[rows:]
        return found

    def _fitting(self, sequences: Sequence[Sequence[int]], spans: Sequence[Span]) -> int:
        """Return how many of the sequences, the longest first, make one batch."""
        most = max(_MOST_TOKENS // len(sequences[0]), 1)
        rows = min(len(sequences), most)
        vocabulary = self._model.config.get_text_config().vocab_size
        while rows > 1 and rows * len(_wanted(spans[:rows], 0)) * vocabulary > _MOST_LOGITS:
            rows = (rows + 1) // 2
        return rows

    def _batch(
        self, sequences: Sequence[Sequence[int]], spans: Sequence[Span], take: Callable[[int, Any], T], cache: Any,
        length: int,
    ) -> list[T]:  # fmt: skip
        device = self._loaded.device
        rests = [list(ids[length:]) for ids in sequences]
        width = max(map(len, rests))
        ids = torch.tensor([rest + [0] * (width - len(rest)) for rest in rests], device=device)
        mask = torch.tensor([[1] * (length + len(r)) + [0] * (width - len(r)) for r in rests], device=device)
        more: dict[str, Any] = {"use_cache": False}
        if cache is not None:
            cache = copy.deepcopy(cache)  # the model writes into it
            if len(rests) > 1:
                cache.batch_repeat_interleave(len(rests))
            more = {self._cache: cache, "use_cache": True}
        wanted = _wanted(spans, length)
        if self._keeps:
            more["logits_to_keep"] = torch.tensor(wanted, device=device)
        logits = self._model(input_ids=ids, attention_mask=mask, **more).logits
        place = {at: k for k, at in enumerate(wanted)} if self._keeps else {at: at for at in wanted}
        found = []
        for row, (start, stop) in enumerate(spans):
            begin = place[start - length]  # the positions of a span are neighbours among those that are wanted
            found.append(take(row, logits[row, begin : begin + stop - start]))
        return found

    def _free(self) -> None:
        gc.collect()
        if self._loaded.device.startswith("cuda"):
            torch.cuda.empty_cache()


def shared_length(sequences: Sequence[Sequence[int]], spans: Sequence[Span]) -> int:
    """Return how many leading tokens all sequences share, none of them within a span."""
    ids = [list(s) for s in sequences]
    least, most = min(ids), max(ids)  # all others lie between them, and share what these two do
    shared = 0
    for a, b in zip(least, most, strict=False):
        if a != b:
            break
        shared += 1
    return min(shared, *(start for start, _ in spans))


def _at(indices: Sequence[int], take: Callable[[int, Any], T]) -> Callable[[int, Any], T]:
    """Return `take` for the rows of a batch."""
    return lambda row, logits: take(indices[row], logits)


def _wanted(spans: Sequence[Span], length: int) -> list[int]:
    return sorted({at - length for start, stop in spans for at in range(start, stop)})


def _probabilities(_: int, logits: Any) -> Any:
    return torch.softmax(logits.float(), dim=-1)
