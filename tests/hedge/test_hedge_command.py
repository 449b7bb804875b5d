"""discretion hedge: from files to a verdict, JSON, and a page that a browser draws; pools made and gone on with."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from discretion.errors import ColumnError, JudgeError, ReadError, StudyError
from discretion.hedge.generate import ChatPolicy, open_reward, open_rewards
from discretion.hedge.sampling import sample_pool
from discretion.hedge.select import Policy
from discretion.sources.pools import load_pool
from discretion.sources.prompts import load_prompts

from ..judges.server import Server, completion, serving
from ..studies import command

HOSTILE = "<script>window.hacked = 1</script>\u202e"


def rows(prompts: int = 40, size: int = 30, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    u = rng.random((prompts, size))
    true = u**4 * (1 - u) * 12
    return [
        {"prompt_id": f"{HOSTILE} {p}", "proxy": u[p, k], "true": true[p, k],
         "vote: help": int(np.sign(true[p, k] - 0.5)), "vote: brief": int(rng.integers(-1, 2))}
        for p in range(prompts) for k in range(size)
    ]  # fmt: skip


def written(path: Path, made: list[dict]) -> Path:
    frame = pl.DataFrame(made)
    {".jsonl": frame.write_ndjson, ".csv": frame.write_csv, ".parquet": frame.write_parquet}[path.suffix](path)
    return path


def test_all_layouts_are_one_pool(tmp_path: Path) -> None:
    made = rows(5, 4)
    flat = load_pool(written(tmp_path / "a.jsonl", made), votes="vote:")
    assert sorted(flat.votes) == ["brief", "help"]
    for name in ("b.csv", "c.parquet"):
        other = load_pool(written(tmp_path / name, made))
        np.testing.assert_allclose(other.proxy, flat.proxy)
        assert np.array_equal(other.prompts, flat.prompts)
    grouped = pl.DataFrame(made).group_by("prompt_id", maintain_order=True).agg("proxy", "true")
    for name in ("d.jsonl", "e.parquet"):
        path = tmp_path / name
        grouped.write_parquet(path) if name.endswith("parquet") else grouped.write_ndjson(path)
        listed = load_pool(path)
        np.testing.assert_allclose(listed.proxy, flat.proxy)
        assert listed.names == flat.names
    turned = load_pool(tmp_path / "b.csv", proxy="-proxy")
    np.testing.assert_allclose(turned.proxy, -flat.proxy)
    assert len(flat.first(2).proxy) == 10


def test_what_is_no_pool_says_why(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"id": "a", "proxy": [1, 2], "true": [1]}\n')
    with pytest.raises(ReadError, match="as many"):
        load_pool(path)
    path.write_text('{"id": "a", "proxy": "much", "true": 1}\n')
    with pytest.raises(ColumnError, match="no number"):
        load_pool(path)
    path.write_text('{"id": "a", "proxy": 1}\n')
    with pytest.raises(ColumnError, match="true reward"):
        load_pool(path)
    path.write_text('{"id": "a", "proxy": 1, "true": true}\n')
    with pytest.raises(ColumnError, match="begins with"):
        load_pool(path, votes="v:")
    with pytest.raises(StudyError, match="format"):
        load_pool(path, format="bonf")
    with pytest.raises(ReadError, match="all_answers"):
        load_pool(path, format="boinf")


@pytest.mark.shared
def test_the_public_pools_are_read(shared: Path) -> None:
    folder = shared / "data" / "hedge"
    aime = load_pool(folder / "analysis_aime2025_Phi-4-reasoning.jsonl", format="boinf")
    assert (len(aime.names), len(aime.proxy)) == (30, 4800)
    judged = load_pool(folder / "judge_goodhart_pilot.jsonl.gz", format="judge-goodhart")
    assert (len(judged.names), len(judged.proxy)) == (120, 2880)
    assert set(np.unique(judged.true)) == {0.0, 1.0}


@pytest.mark.shared
@pytest.mark.slow
def test_the_verdict_on_the_shortest_of_n(shared: Path, tmp_path: Path) -> None:
    path = shared / "data" / "hedge" / "analysis_aime2025_Phi-4-reasoning.jsonl"
    given = ("hedge", path, "--format", "boinf", "--candidates", 80, "--most", 80, "-o", tmp_path / "h")
    done = command(*given)
    text = done.stdout.decode()
    assert done.returncode == 0, done.stderr
    assert max(map(len, text.splitlines())) <= 80
    said = " ".join(text.split())
    assert "Stop at n = 2: best of n by -length goes from .646 at n = 1 to .668, and to .500 at n = 80." in said
    assert "Do not use n = 80." in said
    made = json.loads((tmp_path / "h" / "hedge.json").read_text())
    assert made["families"][0]["curve"]["reward"][1] == pytest.approx(0.66844, abs=1e-5)
    assert made["families"][0]["curve"]["kl"][-1] == pytest.approx(math.log(80) - 1 + 1 / 80, abs=1e-9)


class Echo(Policy):
    """Answers with a number of its seed; it may fail."""

    def __init__(self, fail_after: int = 10**9) -> None:
        self.asked, self.fail_after = 0, fail_after

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        return None

    async def generate(self, prompt: str, seed: int) -> str:
        self.asked += 1
        if self.asked > self.fail_after:
            raise JudgeError("the endpoint is away")
        return "x" * (seed % 97) + HOSTILE


def test_a_pool_that_was_interrupted_is_gone_on_with(tmp_path: Path) -> None:
    prompts = [(f"p{k}", f"question {k}") for k in range(12)]
    rewards = open_rewards({"proxy": "length", "true": "-length"})
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    assert sample_pool(prompts, Echo(), rewards, whole, n=4)["made"] == 48
    with pytest.raises(JudgeError, match="away"):
        sample_pool(prompts, Echo(30), rewards, broken, n=4)
    half = broken.read_text().count("\n")
    assert 0 < half < 48
    with broken.open("a") as file:
        file.write('{"prompt_id": "p11", "sam')  # what a killed process leaves
    policy = Echo()
    made = sample_pool(prompts, policy, rewards, broken, n=4)
    assert (made["known"], made["made"], policy.asked) == (half, 48 - half, 48 - half)
    by = lambda path: sorted(path.read_text().splitlines())  # noqa: E731
    assert by(broken) == by(whole)
    assert sample_pool(prompts, Echo(), rewards, broken, n=6)["made"] == 24
    broken.write_text("?\n")
    with pytest.raises(ReadError, match="no row"):
        sample_pool(prompts, Echo(), rewards, broken, n=4)


@pytest.mark.slow
def test_pools_are_sampled_from_an_endpoint_and_from_a_model(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"id": f"p{k}", "prompt": f"question {k}"}) + "\n" for k in range(4)))
    from ..judges.tiny import save  # torch takes seconds to import

    reward, policy = save(tmp_path / "reward", score=True), save(tmp_path / "policy")
    seen: list[dict] = []
    fault = lambda number, body: {"status": 500} if number == 3 else None  # noqa: E731
    answer = lambda body: (seen.append(body), completion(body, text="a" * (body["seed"] % 9)))[1]  # noqa: E731
    with serving(Server(fault, answer)) as server:
        given = ("hedge", "sample", prompts, "--policy", f"chat:tiny@{server.url}", "--proxy", "length")
        more = ("--true", f"reward:{reward}", "-n", 3, "-o", tmp_path / "pool.jsonl", "--device", "cpu")
        done = command(*given, *more, "--json", env={"OPENAI_API_KEY": "sk-secret-123456"})
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["made"] == 12
        assert json.loads(command(*given, *more, "--json").stdout)["known"] == 12
    assert len({body["seed"] for body in seen}) == 12
    made = load_pool(tmp_path / "pool.jsonl")
    assert len(made.names) == 4
    assert not np.isnan(made.true).any()
    assert "sk-secret" not in (tmp_path / "pool.jsonl").read_text()
    local = command("hedge", "sample", prompts, "--policy", f"local:{policy}", "--proxy", f"reward:{reward}", "-n", 2,
                    "--max-tokens", 6, "-o", tmp_path / "local.jsonl", "--device", "cpu", "--json")  # fmt: skip
    assert local.returncode == 0, local.stderr
    texts = pl.read_ndjson(tmp_path / "local.jsonl")["response"].to_list()
    assert len(set(texts)) > 4
    wrong = command("hedge", "sample", prompts, "--policy", "reward:x", "--proxy", "length")
    assert wrong.returncode == 1
    assert b"generates nothing" in wrong.stderr


def test_prompts_and_rewards(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("question\none\ntwo\n")
    assert load_prompts(path) == [("0", "one"), ("1", "two")]
    assert open_reward("-length")("", ["ab", "a"]) == [-2.0, -1.0]
    with pytest.raises(StudyError, match="scores no responses"):
        open_reward("chat:gpt")
    with pytest.raises(JudgeError, match="address"):
        ChatPolicy("m", "ftp://x")
