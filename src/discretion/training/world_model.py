"""A language model of the small language, trained from nothing in well under a minute: what alignment starts from.

It writes as the world's responses are drawn, so that what a policy prefers later came with the training on preferences.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from discretion.errors import DataError, ExtraError
from discretion.judges.models import load
from discretion.training.world import WORDS, LanguageWorld

try:
    import torch
    import transformers
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers
except ModuleNotFoundError as error:
    raise ExtraError("train", "A laboratory of training") from error

_SPECIAL = ("<pad>", "<unknown>", "<begin>", "<end>", "<user>", "<assistant>")
_CHAT = (
    "{% for m in messages %}{{ '<user> ' if m['role'] == 'user' else '<assistant> ' }}{{ m['content'] }}"
    "{{ ' ' if m['role'] == 'user' else ' <end>' }}{% endfor %}{% if add_generation_prompt %}<assistant> {% endif %}"
)
_CONTEXT = 64
_SPREAD = 0.1  # of initial weights: at the usual 0.02 a model this small does not learn to repeat the topic


def tokenizer() -> Any:
    """Return a tokenizer with one token for each word, with a chat template."""
    vocabulary = {word: k for k, word in enumerate((*_SPECIAL, *WORDS))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", unk_token="<unknown>", bos_token="<begin>", eos_token="<end>",
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    made.add_special_tokens({"additional_special_tokens": ["<user>", "<assistant>"]})
    made.chat_template = _CHAT
    return made


def train_prior(
    world: LanguageWorld,
    folder: Path,
    rng: np.random.Generator,
    *,
    steps: int = 600,
    batch: int = 64,
    width: int = 64,
    layers: int = 2,
    learning_rate: float = 1e-2,
) -> float:
    """Train a language model on responses of a world, save it with its tokenizer, and return its last loss.

    Parameters
    ----------
    world : LanguageWorld
    folder : Path
        That is not there yet.
    rng : numpy Generator
        Draws the texts and the initial weights.
    steps, batch : int
        Fresh responses for each step: nothing is seen twice.
    width, layers : int
        Of a Llama with four heads; 64 and 2 make about 0.1 million weights.
    learning_rate : float
        Of AdamW at its peak, behind a tenth of warm-up and before a linear decay.

    Returns
    -------
    float
        Cross-entropy in nats a token of responses, the mean over the last tenth of the steps.
    """
    if steps < 1 or batch < 1:
        raise DataError(f"{steps} steps of {batch} texts.", expected="one of each or more")
    words = tokenizer()
    config = transformers.LlamaConfig(
        vocab_size=len(words), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=_CONTEXT, initializer_range=_SPREAD,
        pad_token_id=words.pad_token_id, bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        model = transformers.AutoModelForCausalLM.from_config(config)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    ramp = max(steps // 10, 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / ramp, (steps - step) / max(steps - ramp, 1))
    )
    losses: list[float] = []
    for _ in range(steps):
        prompts = world.prompts(batch, rng)
        ids, labels = _batch(words, prompts, world.responses(prompts, rng))
        logits = model(input_ids=ids, attention_mask=(ids != words.pad_token_id).long()).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    # Renamed when whole: a folder that is there holds a finished model. transformers' own way shows a progress bar.
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    config.save_pretrained(part)
    words.save_pretrained(part)
    save_file(model.state_dict(), part / "model.safetensors", metadata={"format": "pt"})
    part.replace(folder)
    return float(np.mean(losses[-ramp:]))


def _batch(words: Any, prompts: Sequence[str], responses: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return tokens padded on the right, and the same with -100 wherever no response stands, each (n, T)."""
    asked = [f"<user> {prompt} <assistant>" for prompt in prompts]
    heads = [len(row) for row in words(asked)["input_ids"]]
    texts = [f"{ask} {response} <end>" for ask, response in zip(asked, responses, strict=True)]
    ids = words(texts, padding=True, padding_side="right", return_tensors="pt")["input_ids"]
    labels = ids.masked_fill(ids == words.pad_token_id, -100)
    for row, head in enumerate(heads):
        labels[row, :head] = -100
    return ids, labels


def sampled(
    folder: Path, prompts: Sequence[str], rng: np.random.Generator, *, new_tokens: int = 20, batch: int = 256
) -> tuple[str, ...]:
    """Draw one response of a saved model to each prompt, at temperature 1, special tokens left out."""
    loaded = load(folder, device="cpu")
    words, model = loaded.tokenizer, loaded.model
    # Prompts of one length need no padding on the left, which would shift positions.
    rows = words([f"<user> {prompt} <assistant>" for prompt in prompts])["input_ids"]
    by_length: dict[int, list[int]] = {}
    for k, row in enumerate(rows):
        by_length.setdefault(len(row), []).append(k)
    found = [""] * len(rows)
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(int(rng.integers(2**31)))
        for alike in by_length.values():
            for start in range(0, len(alike), batch):
                now = alike[start : start + batch]
                ids = torch.tensor([rows[k] for k in now])
                made = model.generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=1.0, top_k=0,
                    top_p=1.0, max_new_tokens=new_tokens, pad_token_id=words.pad_token_id,
                    eos_token_id=words.eos_token_id,
                )  # fmt: skip
                for k, row in zip(now, made[:, ids.shape[1] :], strict=True):
                    found[k] = words.decode(row, skip_special_tokens=True)
    return tuple(found)


def use_threads(threads: int) -> None:
    """Let everything that is trained in this process use so many threads."""
    torch.set_num_threads(threads)
