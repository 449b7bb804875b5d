"""A model on the cluster's GPUs asked through Ray's own LLM batch processor, which runs vLLM.

One of the modules that import ray as they load. Written against the documentation of Ray 2.60 and tried up to the
engine's door: no engine has run it yet. Much faster than one model a GPU, and a run that is stopped loses what the
engine was reading, which costs time and no money. Asked for by name alone (`vllm=True`): its kernels round otherwise,
so it is another judge than `local`, and to choose it where it happens to be installed would ask a study again.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from discretion.errors import ExtraError, JudgeError, StudyError
from discretion.judges.asking import Block, Deliver, Judgement, Stop
from discretion.judges.calls import Call, ChatModel, Form, calls_of
from discretion.judges.prompt import Template, load_template
from discretion.judges.reply import failed
from discretion.judges.spec import Options, Spec

try:
    import ray
    import ray.data
except ModuleNotFoundError as error:
    raise ExtraError("ray", "Judging on a cluster") from error

_AT_ONCE = 200_000  # prompts that are read before the engines are begun anew: loading a model takes minutes
_DELIVERED = 256


class EngineJudge:
    """Asks a model that vLLM serves inside the cluster.

    Parameters
    ----------
    model : ChatModel
        Its `model` is a name on a hub or a folder that every node has.
    template : Template
        One that asks one question at a time.
    secret : bytes
        From which the fences around texts are derived.
    revision : str
        On the hub.
    replicas : int
        Copies of the model, each with GPUs of its own; 0 for as many as there are GPUs.
    dtype : str
    engine : mapping
        Further arguments of the engine, as `tensor_parallel_size` where a model needs several GPUs.

    Raises
    ------
    StudyError
        The template asks all questions in one call.
    """

    def __init__(
        self, model: ChatModel, template: Template, secret: bytes, *, revision: str = "", replicas: int = 0,
        dtype: str = "auto", engine: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        if template.form == "joint":
            raise StudyError("a joint template needs a chat endpoint. Expected one that asks a question at a time.")
        self.model, self.template, self.secret = model, template, secret
        self._revision, self._replicas, self._dtype, self._engine = revision, replicas, dtype, dict(engine or {})
        self.form = Form(model, template, secret)

    @property
    def name(self) -> str:
        """What people call it."""
        return f"vllm:{self.model.model}"

    @property
    def identity(self) -> Mapping[str, object]:
        """What can change an answer. Another kind than `local`: other kernels round otherwise."""
        asked = {name: value for name, value in self.form.identity.items() if name != "kind"}
        return {"kind": "vllm", "revision": self._revision, "dtype": self._dtype, "engine": self._engine, **asked}

    def run(self, blocks: Iterable[Block], deliver: Deliver, stop: Stop) -> None:
        """Ask everything.

        Raises
        ------
        JudgeError
            vLLM is not installed.
        """
        if importlib.util.find_spec("vllm") is None:
            raise JudgeError("vLLM is not installed. Install it on every node with: pip install vllm")
        from ray.data.llm import build_processor, vLLMEngineProcessorConfig

        gpus = ray.cluster_resources().get("GPU", 1.0)
        settings = {"enable_prefix_caching": True, "max_logprobs": self.model.top_logprobs, "dtype": self._dtype}
        config = vLLMEngineProcessorConfig(
            model_source=self.model.model,
            engine_kwargs=settings | ({"revision": self._revision} if self._revision else {}) | self._engine,
            concurrency=self._replicas or max(int(gpus), 1),
            should_continue_on_error=True,
            detokenize_stage=False,  # the engine does, since the alternatives of a token are wanted as text
        )
        processor = build_processor(config, postprocess=kept)
        calls = calls_of(blocks, joint=False)
        while not stop.is_set() and (some := list(islice(calls, _AT_ONCE))):
            rows = [{"number": k, **self.asked(call)} for k, call in enumerate(some)]
            begun = time.monotonic()
            ready: list[Judgement] = []
            for row in processor(ray.data.from_items(rows)).iter_rows():
                ready += self.judged(some[row["number"]], row, time.monotonic() - begun)
                if len(ready) >= _DELIVERED:
                    deliver(ready)
                    ready = []
                if stop.is_set():
                    break
            if ready:
                deliver(ready)

    def asked(self, call: Call) -> dict[str, Any]:
        """Return the columns `messages` and `sampling_params` of a call, as the processor expects them."""
        body = self.form.request(call)
        params = {"temperature": body["temperature"], "max_tokens": self.model.max_tokens, **self.model.extra}
        if "seed" in body:
            params["seed"] = body["seed"]
        if "logprobs" in body:
            params["logprobs"] = self.model.top_logprobs
        return {"messages": body["messages"], "sampling_params": params}

    def judged(self, call: Call, row: Mapping[str, Any], seconds: float) -> list[Judgement]:
        """Return the judgements of a row that came back; one that failed is a status."""
        wrong = row.get("__inference_error__")
        if wrong:
            answer = failed(f"engine: {wrong}"[:120])
            return self.form.judgements(call, [answer], seconds)
        tokens = {"prompt_tokens": row.get("num_input_tokens"), "completion_tokens": row.get("num_generated_tokens")}
        choice = {
            "message": {"content": row.get("generated_text")},
            "logprobs": {"content": list(row.get("alternatives") or [])},
        }
        return self.form.judgements(call, self.form.answers({"choices": [choice]}, 1), seconds, {"usage": tokens})


def kept(row: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of a row, with the alternatives of each token in the form of a chat completion's."""
    alternatives = []
    for token in row.get("logprobs") or []:
        tops = [{"token": one["decoded_token"], "logprob": one["logprob"]} for one in token.values() if one is not None]
        # vLLM puts the token that it drew first.
        alternatives.append({"token": tops[0]["token"] if tops else "", "top_logprobs": tops})
    names = ("number", "generated_text", "num_input_tokens", "num_generated_tokens", "__inference_error__")
    return {name: row[name] for name in names if name in row} | {"alternatives": alternatives}


def open_engine(spec: Spec, options: Options, replicas: int) -> EngineJudge:
    """Return the judge that a spec of the kind `local` names, by an engine.

    Raises
    ------
    StudyError
        It is of another kind.
    """
    if spec.kind != "local":
        raise StudyError(f"vLLM runs models of the cluster's own. Expected local:MODEL, not {spec.kind}:…")
    if options.remote_code:
        raise StudyError("a model's own code is not run by vLLM here. Leave it out, or judge without vLLM.")
    model = ChatModel(spec.model, temperature=options.temperature)
    template = load_template(options.template)
    return EngineJudge(model, template, options.secret, revision=spec.at, replicas=replicas, dtype=options.dtype)
