"""Texts to tokens, for models on this machine: by the tokenizer's chat template where there is one.

What strangers wrote can never become a control token: those are broken up before a template is filled.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import jinja2

from discretion.errors import JudgeError, shown

Message = dict[str, str]

_PROBE = "cXq7 zK3w"  # nothing that a template would change
_ANSWER = "\n\nAnswer:"
_FIXED_DATE = "{% macro strftime_now(format) %}01 Jan 2025{% endmacro %}"
_ROLES = {"human": "user", "user": "user", "assistant": "assistant", "system": "system"}
_MARK = re.compile(r"(?:\A\s*|\n\n)(Human|User|Assistant|System):[ \t]*", re.IGNORECASE)


class Rendering:
    """How one tokenizer reads conversations.

    Parameters
    ----------
    tokenizer
        As transformers loads it.

    Raises
    ------
    JudgeError
        The chat template fails on a plain conversation.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._template: str | None = tokenizer.get_chat_template() if tokenizer.chat_template else None
        self._control = _control_tokens(tokenizer, self._template or "")
        self._merge = False
        self.closing = ""
        if self._template is not None:
            if "strftime_now" in self._template:  # else the prompt would change by the day, and its key would not
                self._template = _FIXED_DATE + self._template
            self._merge = not self._takes_system()
            self.closing = self._closing()
        ids = tokenizer("a", verbose=False)["input_ids"]
        self._drops_end = len(ids) > 1 and ids[-1] == tokenizer.eos_token_id

    @property
    def chat(self) -> bool:
        """Whether there is a chat template."""
        return self._template is not None

    @property
    def form(self) -> str:
        """How texts are put together, for an identity."""
        return "chat" if self.chat else "plain"

    def question(self, messages: Sequence[Message]) -> str:
        """Return the text that ends where the answer begins."""
        if self.chat:
            return self._fill(messages, begin=True)
        return "\n\n".join(self.defused(m["content"]) for m in messages) + _ANSWER

    def conversation(self, prompt: str | None, response: str) -> str:
        """Return a prompt and its response as reward models read them.

        With a chat template: the prompt's turns, then the response as the assistant's. Without one: the prompt, an
        empty line (or what the prompt ends with: a space or a role), the response.
        """
        if self.chat:
            return self._fill([*turns(prompt), {"role": "assistant", "content": response}], begin=False)
        return self.defused(opening(prompt)) + self.defused(response)

    def prompt_and_response(self, prompt: str | None, response: str) -> tuple[str, str]:
        """Return a prompt, up to where the response begins, and the response with what ends a turn.

        The response is never passed through a template, which could strip it or cut parts out.
        """
        if self.chat:
            return self._fill(turns(prompt), begin=True), self.defused(response) + self.closing
        return self.defused(opening(prompt)), self.defused(response)

    def tokens(self, texts: Sequence[str], *, ended: bool = False) -> list[list[int]]:
        """Return the token ids of rendered texts, never truncated.

        Parameters
        ----------
        ended : bool
            Whether the end-of-text token that some tokenizers add stays.
        """
        if not texts:
            return []
        made = self._tokenizer(list(texts), add_special_tokens=not self.chat, verbose=False)
        found: list[list[int]] = made["input_ids"]
        if self._drops_end and not ended and not self.chat:
            return [ids[:-1] for ids in found]
        return found

    def defused(self, text: str) -> str:
        """Return a text in which no control token is left, and no lone surrogate, which no tokenizer takes."""
        if not text.isascii():
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        if self._control is None:
            return text
        while self._control.search(text):  # what was broken up may make another
            text = self._control.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
        return text

    def _fill(self, messages: Sequence[Message], *, begin: bool) -> str:
        safe = [{"role": m["role"], "content": self.defused(m["content"])} for m in messages]
        if self._merge and len(safe) > 1 and safe[0]["role"] == "system":
            joined = f"{safe[0]['content']}\n\n{safe[1]['content']}"
            safe = [{"role": "user", "content": joined}, *safe[2:]]
        try:
            return self._apply(safe, begin=begin)
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise JudgeError(f"the tokenizer's chat template fails: {shown(str(error))}.") from error

    def _apply(self, messages: Sequence[Message], *, begin: bool) -> str:
        # A model that would think first is told not to: its next token is to be the answer.
        made: str = self._tokenizer.apply_chat_template(
            list(messages), chat_template=self._template, tokenize=False, add_generation_prompt=begin,
            enable_thinking=False,
        )  # fmt: skip
        return made

    def _takes_system(self) -> bool:
        """Whether the template shows a system message; some refuse it, some leave it out."""
        messages = [{"role": "system", "content": _PROBE}, {"role": "user", "content": "a"}]
        try:
            return _PROBE in self._apply(messages, begin=True)
        except (jinja2.TemplateError, TypeError, ValueError):
            return False

    def _closing(self) -> str:
        """Return what the template puts behind an assistant's words: the end of its turn."""
        messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _PROBE}]
        return self._fill(messages, begin=False).rpartition(_PROBE)[2].rstrip()


def turns(prompt: str | None) -> list[Message]:
    """Split a prompt into turns where it is a transcript from first to last, else take it as the user's one turn.

    A transcript has a role before each turn, as HH's texts ("Human:") and flattened messages ("User:") do; users and
    assistants alternate, a user begins, perhaps behind a system message, and a user ends it, or the mark of the
    assistant's turn that the response is.
    """
    text = prompt or ""
    marks = list(_MARK.finditer(text))
    if marks and marks[0].start() == 0:
        ends = [*(m.start() for m in marks[1:]), len(text)]
        found = [
            {"role": _ROLES[mark[1].lower()], "content": text[mark.end() : end].strip()}
            for mark, end in zip(marks, ends, strict=True)
        ]
        if len(found) > 1 and found[-1]["role"] == "assistant" and not found[-1]["content"]:
            found.pop()
        talk = found[1:] if found[0]["role"] == "system" else found
        expected = [("user", "assistant")[k % 2] for k in range(len(talk))]
        if len(talk) % 2 == 1 and [m["role"] for m in talk] == expected:
            return found
    return [{"role": "user", "content": text}]


def opening(prompt: str | None) -> str:
    """Return a prompt as plain text that a response can follow."""
    if not prompt or prompt[-1].isspace():
        return prompt or ""
    return prompt + (" " if prompt.endswith(":") and _MARK.search(prompt.rsplit("\n\n", 1)[-1]) else "\n\n")


def _control_tokens(tokenizer: Any, template: str) -> re.Pattern[str] | None:
    """Return a pattern of the strings that become control tokens wherever they stand."""
    added = tokenizer.added_tokens_decoder.values()
    names = {t.content for t in added if t.special or (t.content in template and not t.content.isspace())}
    names |= set(tokenizer.all_special_tokens)
    wanted = sorted((name for name in names if len(name) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, wanted))) if wanted else None
