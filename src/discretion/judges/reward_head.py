"""A reward model on any causal language model: one linear output on the hidden state of its last token.

transformers has classifiers for half of the causal types. Ours is built from a configuration alone, by the library's
own code, and known by its name in config.json: it is loaded again without any code that comes with a model.
"""

from __future__ import annotations

import copy
import inspect
from functools import cache
from typing import Any

from discretion.errors import ExtraError, JudgeError, shown

try:
    import torch
    import transformers
    from transformers.modeling_outputs import SequenceClassifierOutput
except ModuleNotFoundError as error:
    raise ExtraError("local", "Running a model on this machine") from error

ARCHITECTURE = "LastTokenForSequenceClassification"
"""What config.json says under `architectures` of a reward model of ours."""

_CANNOT = (ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError, AssertionError)


def reward_class(config: Any, name: str) -> Any:
    """Return the class that a reward model with the body of a causal language model has.

    The library's classifier where its body takes the language model's weights, else `last_token_class`. Only shapes are
    compared, on torch's meta device: nothing is allocated, and nothing is read but the configuration.

    Parameters
    ----------
    config
        Of the language model.
    name : str
        Of the model, for a message.

    Raises
    ------
    JudgeError
        The model is none that this can be said of: no body stands apart from its output layer.
    """
    try:
        config = _own_config(config)
        with torch.device("meta"):
            wanted = _shapes(body_of(_causal(config)(copy.deepcopy(config)))[1])
    except _CANNOT as error:
        raise JudgeError(
            f"no reward model can be made of {shown(name)}: {shown(str(error) or type(error).__name__, 160)}. Expected "
            "a causal language model of which the hidden states can be had. Name another base."
        ) from error
    try:
        known = transformers.AutoModelForSequenceClassification._model_mapping[type(config)]
        with torch.device("meta"):
            made = known(one_output(config))
        if _shapes(made.base_model) == wanted and made.base_model is not made:
            return known
    except _CANNOT:  # of a type without a classifier, or with one that wants more than a language model has
        pass
    return last_token_class(config)


def one_output(config: Any) -> Any:
    """Return a copy of a configuration with one output."""
    made = copy.deepcopy(config)
    made.num_labels = 1
    return made


def body_of(model: Any) -> tuple[str, Any]:
    """Return the part of a causal language model below its output layer, behind the name it has there.

    Raises
    ------
    ValueError
        There is none.
    """
    below = model.base_model
    parts = dict(model.named_children())
    if below is model:  # the model's prefix names no part of it
        output = model.get_output_embeddings()
        others = [part for part in parts.values() if part is not output]
        below = others[0] if len(others) == 1 else None
    name = next((name for name, part in parts.items() if part is below), None)
    if name is None:
        raise ValueError(f"a {type(model).__name__} has no body of its own")
    return name, below


def last_token_class(config: Any) -> Any:
    """Return our class of reward models for a type of causal language model.

    Raises
    ------
    KeyError
        The configuration is of no causal type.
    """
    return _last_token_class(_causal(config))


def _causal(config: Any) -> Any:
    return transformers.AutoModelForCausalLM._model_mapping[type(config)]


def _own_config(config: Any) -> Any:
    """Return the part that a language model alone takes from the configuration of one that also sees or hears."""
    causal = _causal(config)
    return config.get_text_config() if causal.config_class is config.sub_configs.get("text_config") else config


@cache
def _last_token_class(causal: Any) -> Any:
    # The family's own base, and its module, say how weights are drawn, kept and converted and what can be dispatched.
    family = next(
        base
        for base in causal.__mro__[1:]
        if issubclass(base, transformers.PreTrainedModel) and not issubclass(base, transformers.GenerationMixin)
    )
    return type(ARCHITECTURE, (_LastToken, family), {"__module__": family.__module__})


class _LastToken:
    """What our reward models add to the base of a family of models."""

    config: Any
    score: Any

    def __init__(self, config: Any) -> None:
        super().__init__(config)  # type: ignore[call-arg]  # the family's
        causal = _causal(config)(config)
        self.base_model_prefix, body = body_of(causal)
        output = causal.get_output_embeddings()
        width = config.get_text_config().hidden_size if output is None else output.weight.shape[1]
        setattr(self, self.base_model_prefix, body)
        self.num_labels = 1
        self.score = torch.nn.Linear(width, 1, bias=False)
        takes = inspect.signature(body.forward).parameters
        more = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in takes.values())
        self._takes = tuple(name for name in ("attention_mask", "use_cache") if more or name in takes)
        self.post_init()  # type: ignore[attr-defined]

    def forward(self, input_ids: Any = None, attention_mask: Any = None, **_: Any) -> SequenceClassifierOutput:
        """Return the rewards of texts, `logits` (n, 1), padded on either side where `attention_mask` (n, T) is 0."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        how = {"attention_mask": attention_mask, "use_cache": False}
        body = getattr(self, self.base_model_prefix)
        hidden = body(input_ids=input_ids, **{name: how[name] for name in self._takes})[0]  # (n, T, width)
        places = torch.arange(input_ids.shape[1], device=hidden.device)
        last = (places * attention_mask.to(hidden.device)).argmax(-1)
        return SequenceClassifierOutput(logits=self.score(hidden[torch.arange(len(hidden), device=last.device), last]))


def _shapes(module: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
