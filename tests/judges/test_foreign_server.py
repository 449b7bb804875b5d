"""End to end against a server that is not ours: transformers serves a tiny model, and the command judges with it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from discretion.collect import plan, questions_of
from discretion.journal import Journal
from discretion.judges.local import LocalJudge
from discretion.judges.models import load
from discretion.judges.prompt import load_template
from discretion.judging import SECRET as FENCE
from discretion.study import load_questions, load_study

from ..studies import command
from .tiny import save

pytestmark = pytest.mark.slow


def decided(folder: Path) -> Path:
    """Save a model whose next token is an A or a B, which of them by what it read."""
    save(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    words = transformers.AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(3)
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = 6.0  # a channel that is always on
        head = model.lm_head.weight
        head.zero_()
        for letter in "AB":
            (token,) = words(letter, add_special_tokens=False)["input_ids"]
            head[token] = torch.randn(head.shape[1])
            head[token, :2] = torch.tensor([8.0, 0.0])
            model.model.embed_tokens.weight[token, 1] = 40.0  # what follows a letter is the end
        head[1, 1] = 40.0
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def address(tmp_path: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    decided(tmp_path / "tiny-judge")
    given = ["serve", "tiny-judge", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    program = Path(sys.executable).with_name("transformers")
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [program, *given], cwd=tmp_path, stdout=log, stderr=log, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )
        try:
            deadline = time.monotonic() + 90
            while True:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health"):
                        break
                except (urllib.error.URLError, ConnectionError):
                    assert process.poll() is None, (tmp_path / "log").read_text()[-2000:]
                    assert time.monotonic() < deadline, (tmp_path / "log").read_text()[-2000:]
                    time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait(30)


def test_a_study_is_judged_by_a_server_of_others(address: str, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    rows = [{"id": f"c{k}", "prompt": f"q {k}", "chosen": f"yes {k}", "rejected": "no " * k + "!"} for k in range(8)]
    (folder / "comparisons.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "constitution.txt").write_text("Be helpful.\nAvoid harm.\n")
    done = command("judge", folder, "--oracle", f"chat:tiny-judge@{address}", "--at-once", 2, "--json")
    assert done.returncode == 0, done.stderr
    (task,) = json.loads(done.stdout)["tasks"]
    assert task["collected"]["reasons"] == {}
    assert (task["collected"]["asked"], task["collected"]["failed"]) == (32, 0)
    assert {row["habit"] for row in task["habits"]} >= {"first shown in both orders", "prefers the longer response"}
    # The same model, read here by its next token, under the same fences: the same verdicts.
    secret = bytes.fromhex((folder / f"judgements.sqlite{FENCE}").read_text())
    local = LocalJudge(load(tmp_path / "tiny-judge", device="cpu"), load_template("standard"), secret)
    there = load_study(folder).table
    found: list = []
    comparisons, constitution = load_questions(folder)
    with Journal.open(tmp_path / "j.sqlite") as journal:
        planned = plan(local, journal, comparisons, questions_of(constitution))
        local.run(planned.blocks(), found.extend, threading.Event())
    assert there.oracle is not None
    served = there.oracle.values()
    assert len(found) == 32
    names = list(there.constitution.names)
    for j in found:
        verdict = np.sign(j.first - j.second)
        assert served[j.order, int(j.case[1:]), names.index(j.question)] == verdict
    assert {int(v) for v in np.unique(served)} == {-1, 1}
