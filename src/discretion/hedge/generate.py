"""Policies that answer prompts, through a chat endpoint or on this machine, and rewards that score the answers.

Each takes what the judges take: an address, a folder, a key's variable. Extras are needed only by those who use them.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from discretion.errors import ExtraError, JudgeError, StudyError, shown
from discretion.hedge.select import Policy
from discretion.judges.asking import OK, Block, Score
from discretion.judges.calls import said
from discretion.judges.completion import parsed
from discretion.judges.endpoint import OPENAI, address, refuse_plain, retry_after
from discretion.judges.opening import open_scorer
from discretion.judges.scoring import Scorer
from discretion.judges.spec import Options, Spec

if TYPE_CHECKING:
    import aiohttp

    from discretion.judges.models import LoadedModel

Reward = Callable[[str, Sequence[str]], list[float]]
_TRIES = 8


class ChatPolicy:
    """Answers through a chat endpoint; an asynchronous context manager.

    Parameters
    ----------
    model, base_url : str
    key_variable : str
        The environment variable that holds the key.
    max_tokens : int
    temperature : float
    at_once : int
        Calls in flight at the most.
    wait : float
        Scale of all waiting; 0 makes tests quick.
    """

    def __init__(
        self, model: str, base_url: str = OPENAI, *, key_variable: str = "OPENAI_API_KEY", max_tokens: int = 512,
        temperature: float = 1.0, at_once: int = 64, wait: float = 1.0,
    ) -> None:  # fmt: skip
        self.model, self._url, self._variable = model, address(base_url), key_variable
        refuse_plain(self._url, key_variable)
        self._settings = {"max_tokens": max_tokens, "temperature": temperature}
        self._at_once, self._wait = at_once, wait
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> ChatPolicy:
        try:
            import aiohttp
        except ModuleNotFoundError as error:
            raise ExtraError("judge", "Asking a chat endpoint") from error

        key = os.environ.get(self._variable, "")
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._turns = asyncio.Semaphore(self._at_once)
        self._session = aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def generate(self, prompt: str, seed: int) -> str:
        """Return a candidate.

        Raises
        ------
        JudgeError
            The endpoint refuses, or does not answer for long.
        """
        import aiohttp

        if self._session is None:
            raise JudgeError("the policy is not open. Use it in an `async with` block.")
        body = {"model": self.model, "messages": [{"role": "user", "content": prompt}], "seed": seed, **self._settings}
        why = ""
        for attempt in range(_TRIES):
            asked = None
            try:
                async with self._turns, self._session.post(self._url, json=body, allow_redirects=False) as response:
                    raw = await response.read()
                    if response.status == 200 and (text := _text(raw)) is not None:
                        return text
                    why = f"{response.status}: {said(raw, os.environ.get(self._variable, ''))}"
                    asked = retry_after(response.headers)
                    if response.status in (400, 401, 403, 404, 405, 422):
                        break
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                why = type(error).__name__
            seconds = random.uniform(0.1, min(0.5 * 2**attempt, 30.0)) if asked is None else asked
            await asyncio.sleep(seconds * self._wait)
        raise JudgeError(f"the endpoint {self._url} gave no answer ({why}). Check its address, model and key.")


def _text(raw: bytes) -> str | None:
    body = parsed(raw) or {}
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else None
    return text if isinstance(text, str) else None


class LocalPolicy:
    """Answers with a causal language model on this machine, one prompt at a time.

    Parameters
    ----------
    model : LoadedModel
    max_tokens : int
    temperature : float
        0 is greedy: then all candidates are the same.
    """

    def __init__(self, model: LoadedModel, *, max_tokens: int = 512, temperature: float = 1.0) -> None:
        from discretion.judges.rendering import Rendering

        self._model, self._rendering = model, Rendering(model.tokenizer)
        self._max_tokens, self._temperature = max_tokens, temperature
        self._lock = threading.Lock()

    async def __aenter__(self) -> LocalPolicy:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def generate(self, prompt: str, seed: int) -> str:
        """Return a candidate."""
        return await asyncio.to_thread(self._generate, prompt, seed)

    def _generate(self, prompt: str, seed: int) -> str:
        import torch

        text, _ = self._rendering.prompt_and_response(prompt, "")
        (ids,) = self._rendering.tokens([text])
        model = self._model.model
        room = (
            self._max_tokens if self._model.context is None else min(self._max_tokens, self._model.context - len(ids))
        )
        if room < 1:
            raise JudgeError(f"a prompt of {len(ids)} tokens leaves no room for an answer.")
        greedy = self._temperature == 0
        how: dict[str, Any] = (
            {"do_sample": False} if greedy else {"do_sample": True, "temperature": self._temperature, "top_k": 0}
        )
        with self._lock, torch.random.fork_rng(), torch.inference_mode():  # a seed belongs to one thread at a time
            torch.manual_seed(seed)
            given = torch.tensor([ids], device=self._model.device)
            pad = model.generation_config.pad_token_id
            pad = pad if pad is not None else (self._model.tokenizer.eos_token_id or 0)
            made = model.generate(
                given, attention_mask=torch.ones_like(given), max_new_tokens=room, pad_token_id=pad, **how
            )
        answer: str = self._model.tokenizer.decode(made[0, len(ids) :], skip_special_tokens=True)
        return answer


def open_policy(
    text: str, *, max_tokens: int, temperature: float, at_once: int, key_variable: str, device: str = ""
) -> Policy:
    """Return the policy that a name means: "chat:MODEL[@URL]" or "local:FOLDER".

    Raises
    ------
    StudyError, JudgeError, ExtraError
        There is no such policy, or it cannot be opened.
    """
    spec = Spec.parse(text)
    if spec.kind == "chat":
        return ChatPolicy(
            spec.model, spec.at or OPENAI, key_variable=key_variable, max_tokens=max_tokens, temperature=temperature,
            at_once=at_once,
        )  # fmt: skip
    if spec.kind == "local":
        from discretion.judges.models import load

        loaded = load(spec.model, revision=spec.at or None, device=device or None)
        return LocalPolicy(loaded, max_tokens=max_tokens, temperature=temperature)
    raise StudyError(f"{shown(text)} generates nothing. Expected chat:MODEL[@URL] or local:FOLDER.")


def open_rewards(given: Mapping[str, str], device: str = "") -> dict[str, Reward]:
    """Return rewards by name: "reward:FOLDER", "length" (the longest) or "-length" (the shortest)."""
    return {name: open_reward(text, device) for name, text in given.items()}


def open_reward(text: str, device: str = "") -> Reward:
    """Return the reward that a name means."""
    if text in ("length", "-length"):
        sign = -1.0 if text.startswith("-") else 1.0
        return lambda prompt, candidates: [sign * len(c) for c in candidates]
    return scoring(open_scorer(Spec.parse(text), Options(device=device)))


def scoring(scorer: Scorer) -> Reward:
    """Return a scorer of the judges, a reward model or a policy, as a reward of candidates, one prompt at a time."""
    one_at_a_time = threading.Lock()  # a model's padding is set for a batch, and memory is for one

    def reward(prompt: str, candidates: Sequence[str]) -> list[float]:
        found: dict[tuple[str, int], Score] = {}
        # Two candidates a block, as a comparison has; an odd one stands twice.
        pairs = [(k, k + 1 if k + 1 < len(candidates) else k) for k in range(0, len(candidates), 2)]
        blocks = [Block(str(a), prompt, candidates[a], candidates[b], ()) for a, b in pairs]
        with one_at_a_time:
            scorer.run(blocks, lambda made: found.update(((s.case, s.response), s) for s in made), threading.Event())
        values = []
        for k in range(len(candidates)):
            score = found.get((str(k - k % 2), k % 2)) or found.get((str(k - k % 2), 0))
            sound = score is not None and score.status == OK
            values.append(float(next(iter(score.values.values()))) if sound and score is not None else float("nan"))
        return values

    return reward
