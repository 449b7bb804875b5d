"""From a judge's name to the judge: the one place that knows all ways to ask.

Each is imported only when it is named, so that an extra is needed only by those who use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from discretion.errors import StudyError, shown
from discretion.judges.asking import Judge
from discretion.judges.prompt import Template, load_template
from discretion.judges.scoring import Scorer
from discretion.judges.spec import ENDPOINTS, SCORERS, Options, Spec

if TYPE_CHECKING:
    from discretion.judges.models import LoadedModel


def open_judge(spec: Spec, options: Options) -> Judge:
    """Return the judge that a spec names.

    Raises
    ------
    ExtraError
        What it needs is not installed.
    StudyError
        There is no such judge, or it scores responses and answers no questions.
    JudgeError, ReadError
        Its model cannot be loaded.
    """
    template = load_template(options.template)
    if spec.kind == "scripted":
        from discretion.judges.scripted import prefers_longer

        if spec.model != "longer":
            raise StudyError(f"there is no rule {shown(spec.model)}. Expected scripted:longer.")
        return prefers_longer()
    if spec.kind in ENDPOINTS:
        return _endpoint(spec, options, template)
    if spec.kind == "inspect":
        from discretion.judges.through_inspect import InspectJudge

        return InspectJudge(
            spec.model, template, options.secret, temperature=options.temperature, at_once=options.at_once,
            prices=options.prices,
        )  # fmt: skip
    if spec.kind == "local":
        from discretion.judges.local import LocalJudge

        return LocalJudge(_loaded(spec, options, "causal"), template, options.secret, **_batch(options))
    raise StudyError(f"{spec.kind}:{shown(spec.model)} scores responses and answers no questions.")


def open_scorer(spec: Spec, options: Options) -> Scorer:
    """Return the scorer that a spec names: a reward model or a policy.

    Raises
    ------
    ExtraError, StudyError, JudgeError, ReadError
        As for `open_judge`.
    """
    if spec.kind not in SCORERS:
        raise StudyError(f"{spec.kind}:{shown(spec.model)} scores no responses. Expected one of {', '.join(SCORERS)}.")
    if spec.kind == "reward":
        from discretion.judges.reward import RewardModel

        return RewardModel(_loaded(spec, options, "score"), **_batch(options))
    from discretion.judges.policy import Policy

    reference = None
    if options.reference:
        reference = _loaded(Spec.parse(f"policy:{options.reference}"), options, "causal")
    return Policy(_loaded(spec, options, "causal"), reference, **_batch(options))


def _endpoint(spec: Spec, options: Options, template: Template) -> Judge:
    from discretion.judges.calls import ChatModel
    from discretion.judges.endpoint import OPENAI

    prices = options.prices or {}
    model = ChatModel(
        model=spec.model, key_variable=options.key_variable, temperature=options.temperature,
        price_in=prices.get("in"), price_cached=prices.get("cached"), price_out=prices.get("out"),
        base_url=spec.at or OPENAI,
    )  # fmt: skip
    if spec.kind == "chat":
        from discretion.judges.chat import ChatJudge

        return ChatJudge(model, template, options.secret, at_once=options.at_once)
    from discretion.judges.batch import BatchJudge

    return BatchJudge(model, template, options.secret, options.folder, poll=options.poll)


def _loaded(spec: Spec, options: Options, kind: str) -> LoadedModel:
    from discretion.judges.models import load

    return load(
        spec.model, kind=kind, revision=spec.at or None, dtype=options.dtype, device=options.device or None,
        remote_code=options.remote_code,
    )  # fmt: skip


def _batch(options: Options) -> dict[str, Any]:
    return {"batch": options.batch} if options.batch else {}
