"""The local judge: a comparison's 21 questions on one cached prefix, beside asking each question separately.

    python benchmarks/local_judge.py [--tokens 500] [--width 256] [--layers 4] [--rounds 7]

A small Llama with random weights, built here and saved with safetensors; the principles are the built-in ones. Both
ways take turns in one process, and medians are printed. The answers are compared as well.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from discretion.constitution import built_in
from discretion.judges.asking import Ask, Block, Judgement, Question
from discretion.judges.local import LocalJudge
from discretion.judges.models import LoadedModel, load
from discretion.judges.prompt import load_template, messages
from discretion.judges.rendering import Rendering

CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|eos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]


def make(folder: Path, width: int, layers: int) -> LoadedModel:
    """Build a model whose tokenizer knows the words of the prompts, as those of real models do; save and load it."""
    template = load_template("standard")
    words = [template.system, template.comparison, template.question, *(p.text for p in built_in())]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        words,
        trainers.BpeTrainer(
            vocab_size=4000, min_frequency=1, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
        ),
    )
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|eos|>")
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL[1:]})
    tokenizer.chat_template = CHAT
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers, num_attention_heads=8,
        num_key_value_heads=2, vocab_size=4096, max_position_embeddings=8192, initializer_range=0.1,
    )  # fmt: skip
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load(folder, device="cpu")


def comparison(rendering: Rendering, tokens: int) -> Block:
    """Return a comparison of so many tokens, prompt and responses together, and what is asked of it."""
    text = " ".join(p.text for p in built_in())
    ids = rendering.tokens([text * (1 + 4 * tokens // len(text))])[0]
    per_token = len(text * (1 + 4 * tokens // len(text))) / len(ids)
    n = round(tokens * per_token)
    long = text * (1 + n // len(text))
    prompt, first, second = long[: n // 3], long[n // 3 : 2 * n // 3], long[2 * n // 3 : n]
    questions = [Question(p.name, p.text) for p in built_in()]
    asks = tuple(Ask(bytes([order, k]) * 8, q, order) for order in (0, 1) for k, q in enumerate(questions))
    return Block("c", prompt, first, second, asks)


def main() -> None:
    """Run both ways and print the ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=500)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    template = load_template("standard")
    with tempfile.TemporaryDirectory() as folder:
        model = make(Path(folder) / "tiny-llama", given.width, given.layers)
    rendering = Rendering(model.tokenizer)
    block = comparison(rendering, given.tokens)
    prompts = rendering.tokens([rendering.question(messages(template, block, a, b"s")) for a in block.asks])
    texts = sum(map(len, rendering.tokens([block.prompt or "", block.first, block.second])))
    judges = {
        "shared prefix": LocalJudge(model, template, b"s"),
        "each question separately": LocalJudge(model, template, b"s", batch=1, share=False),
    }
    times: dict[str, list[float]] = {name: [] for name in judges}
    answers: dict[str, list[Judgement]] = {}
    for _ in range(given.rounds + 1):  # the first round warms up and tries the cache; it is not counted
        for name, judge in judges.items():
            found: list[Judgement] = []
            begun = time.perf_counter()
            judge.run([block], found.extend, threading.Event())
            times[name].append(time.perf_counter() - begun)
            answers[name] = found
    print(
        f"Llama, {given.layers} layers of {given.width}; a comparison of {texts} tokens, {len(block.asks)} questions in"
        f" two orders; prompts of {min(map(len, prompts))} to {max(map(len, prompts))} tokens,"
        f" {answers['shared prefix'][1].tokens_cached} of them shared; {torch.get_num_threads()} threads"
    )
    medians = {name: statistics.median(seconds[1:]) for name, seconds in times.items()}
    for name, seconds in medians.items():
        print(f"{name:26} {seconds * 1000:8.1f} ms a comparison, {len(block.asks) / seconds:8.0f} judgements a second")
    values = [np.array([(j.first, j.second, j.neither) for j in found]) for found in answers.values()]
    print(f"{medians['each question separately'] / medians['shared prefix']:.1f} times as fast; "
          f"probabilities differ by {np.abs(values[0] - values[1]).max():.1e} at the most")  # fmt: skip


if __name__ == "__main__":
    main()
