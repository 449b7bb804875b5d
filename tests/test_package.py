"""The package as a whole: imports that point one way, a light start, documented and working examples."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import discretion

from .studies import PRINCIPLES, REPOSITORY, command, environment, votes_table, write_csv

SOURCE = REPOSITORY / "src" / "discretion"
MODULES = {
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}
HEAVY = ("torch", "ray", "starlette", "uvicorn", "datasets", "transformers", "aiohttp", "openai", "pandas", "pyarrow",
         "inspect_ai", "litellm", "huggingface_hub", "trl", "peft", "accelerate")  # fmt: skip
ASKING = {"discretion.judges.chat": "judge", "discretion.judges.batch": "judge",
          "discretion.judges.through_inspect": "inspect", "discretion.hedge.generate": "judge local"} | {
    f"discretion.judges.{name}": "local" for name in ("local", "models", "policy", "prefix", "reward", "reward_head")
} | {name: "local train hf" for name in MODULES if name.startswith("discretion.training.")} | {
    name: "ray judge" for name in MODULES if name.startswith("discretion.scale.")
}  # fmt: skip
"""Modules that need an extra, and which."""
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


@cache
def imported(name: str, *, at_run_time: bool = True, anywhere: bool = False) -> set[str]:
    """Return the modules that a module imports: at its level, or also within its functions."""
    tree = ast.parse(MODULES[name].read_text())
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not anywhere:
            return
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and at_run_time:
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*package.split(".")[: len(package.split(".")) - node.level + 1], base]).strip(".")
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found.add(whole if whole in MODULES else base)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return found


@cache
def within(name: str, *, anywhere: bool = False) -> set[str]:
    return {m for m in imported(name, anywhere=anywhere) if m in MODULES and m != name}


@cache
def reachable(name: str) -> set[str]:
    seen: set[str] = set()
    ahead = [name]
    while ahead:
        for other in within(ahead.pop()):
            if other not in seen and other != "discretion":  # the package itself loads lazily
                seen.add(other)
                ahead.append(other)
    return seen


def test_the_modules_are_found() -> None:
    assert {"discretion", "discretion.metrics.priority", "discretion.sources.oracle", "discretion.cli"} <= set(MODULES)
    assert "discretion.metrics.counts" in reachable("discretion.audit")
    assert "discretion.audit" in within("discretion.cli", anywhere=True)


@pytest.mark.parametrize("name", [m for m in MODULES if m.startswith("discretion.metrics")])
def test_metrics_need_numpy_and_scipy_alone(name: str) -> None:
    for other in imported(name, at_run_time=False, anywhere=True):
        top = other.partition(".")[0]
        allowed = top in {"numpy", "scipy"} or top in sys.stdlib_module_names
        assert allowed or other.startswith("discretion.metrics"), f"{name} imports {other}"


def test_the_core_knows_nothing_of_what_shows_it() -> None:
    """Each line: who must never reach whom."""
    above = {"discretion.cli", "discretion.terminal", "discretion.terminal_results", "discretion.document"}
    above.add("discretion.terminal_rulings")
    audits = {"discretion.audit", "discretion.saved", "discretion.diff", "discretion.influence", "discretion.reproduce"}
    for name in MODULES:
        reached = reachable(name)
        if name.startswith("discretion.sources"):
            assert not reached & (above | audits | {"discretion.study"}), name
        if name in ("discretion.errors", "discretion.vote"):
            assert not reached, name
        if name in ("discretion.rulings", "discretion.folder_lock"):
            assert reached <= {"discretion.errors", "discretion.vote", "discretion.folder_lock"}, name
        if name in ("discretion.table", "discretion.comparison", "discretion.constitution"):
            assert not reached & (above | audits), name
            assert not any(m.startswith(("discretion.sources", "discretion.metrics")) for m in reached), name
        if name in audits or name.startswith("discretion.cases"):
            assert not reached & above, name
            assert not any(m.startswith(("discretion.report", "discretion.viewer")) for m in reached), name
        if name.startswith("discretion.report"):
            assert not any(m.startswith(("discretion.cli", "discretion.viewer")) for m in reached), name
        if name not in ("discretion.cli", "discretion.__main__"):
            assert "discretion.cli" not in within(name, anywhere=True), name


def test_hedging_is_pure_where_it_computes() -> None:
    pure = {
        f"discretion.hedge.{name}"
        for name in ("law", "laws", "soft", "curves", "pool", "soft_pool", "bands", "alternatives", "tune")
    }
    for name in pure:
        assert reachable(name) <= pure | {"discretion.errors", "discretion.metrics.resampling", "discretion.hedge"}, (
            name
        )


def test_there_is_no_cycle() -> None:
    for name in MODULES:
        assert name not in reachable(name), f"{name} imports itself by way of others"


def test_nothing_heavy_is_imported_with_a_module() -> None:
    for name in MODULES:
        # The case explorer is a web server, and ways to ask models stand on what runs or reaches them.
        if not name.startswith("discretion.viewer") and name not in ASKING:
            for other in imported(name):
                assert other.partition(".")[0] not in HEAVY, f"{name} imports {other}"


def fresh(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_loads_nothing_heavy() -> None:
    for first in ("import discretion", "import discretion, discretion.cli, discretion.errors"):
        loaded = set(fresh(f"{first}; import sys; print(*sys.modules)").split())
        assert "discretion" in loaded
        assert not loaded & {*HEAVY, "numpy", "polars", "scipy"}
    # Negative control: the first use of a name does load them.
    loaded = set(fresh("import discretion; discretion.audit; import sys; print(*sys.modules)").split())
    assert {"numpy", "polars", "discretion.audit"} <= loaded
    assert not loaded & set(HEAVY)


def test_every_public_name_is_there() -> None:
    assert sorted(discretion.__all__) == sorted(set(discretion.__all__))
    for name in discretion.__all__:
        assert getattr(discretion, name) is not None
        assert name in dir(discretion)
    with pytest.raises(AttributeError, match="nonsense"):
        discretion.nonsense  # noqa: B018
    typed = re.findall(r"import (\w+) as \1", MODULES["discretion"].read_text())
    assert sorted([*typed, "__version__"]) == sorted(discretion.__all__)


@pytest.mark.parametrize("first", ["audit", "diff", "influence", "saved", "cli", "reproduce", "terminal_results"])
@pytest.mark.slow
def test_functions_stay_functions_whatever_is_imported_first(first: str) -> None:
    code = (
        f"import discretion.{first}\nimport discretion\n"
        "for module in ('audit', 'diff', 'influence', 'saved'):\n"
        "    __import__('discretion.' + module)\n"
        "import types\n"
        "for name in ('audit', 'diff', 'influence'):\n"
        "    value = getattr(discretion, name)\n"
        "    assert isinstance(value, types.FunctionType) and value.__name__ == name, name\n"
        "from discretion import audit, diff, influence\n"
        "assert callable(audit) and callable(diff) and callable(influence)\n"
        "from discretion.audit import Audit\n"
        "print('fine')"
    )
    assert fresh(code) == "fine"


def declared(needs: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9_-]", need)[0].lower().replace("vl-convert-python", "vl_convert") for need in needs}


def used_by(names: list[str]) -> set[str]:
    found = {m.partition(".")[0] for name in names for m in imported(name, anywhere=True)}
    return found - set(sys.stdlib_module_names) - {"discretion"}


def test_the_core_needs_little() -> None:
    core = declared(PROJECT["dependencies"])
    assert not core & {*HEAVY, "fastapi", "flask", "django", "trl", "tensorflow", "jax", "uvloop", "httpx"}
    extras = {name: declared(needs) for name, needs in PROJECT["optional-dependencies"].items()}
    viewer = [m for m in MODULES if m.startswith("discretion.viewer")]
    hub = ["discretion.sources.hugging_face"]
    rest = [m for m in MODULES if m not in (*viewer, *hub, *ASKING)]
    # What is imported is declared, and what an extra brings is used where it may be missing only.
    assert used_by(rest) <= core
    assert used_by(viewer) <= core | extras["view"]
    assert used_by(hub) <= core | extras["hf"]
    for module, needed in ASKING.items():
        # What transformers needs itself comes with it.
        brings = {"huggingface_hub", "safetensors", "tokenizers", "accelerate"} if "local" in needed else set()
        brings |= {"pyarrow"} if "ray" in needed else set()
        assert used_by([module]) <= core.union(*(extras[extra] for extra in needed.split())) | brings, module


def test_versions_agree() -> None:
    assert PROJECT["version"] == discretion.__version__


@pytest.mark.slow
def test_everything_public_is_documented() -> None:
    bare = []
    for info in pkgutil.walk_packages(discretion.__path__, "discretion."):
        if info.name == "discretion.__main__":  # runs the command when imported
            continue
        module = importlib.import_module(info.name)
        if not (module.__doc__ or "").strip():
            bare.append(info.name)
        for name, thing in vars(module).items():
            if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
                continue
            if inspect.isfunction(thing) or inspect.isclass(thing):
                if not (thing.__doc__ or "").strip() or thing.__doc__.startswith(f"{name}("):
                    bare.append(f"{info.name}.{name}")
                for method, f in vars(thing).items() if inspect.isclass(thing) else ():
                    inner = f.fget if isinstance(f, property) else getattr(f, "__func__", f)
                    if not method.startswith("_") and inspect.isfunction(inner) and not inner.__doc__:
                        bare.append(f"{info.name}.{name}.{method}")
    assert bare == []
    assert ast.get_docstring(ast.parse(MODULES["discretion.__main__"].read_text()))


def blocks(path: str, language: str) -> list[str]:
    """Return the fenced blocks of a document that name a language, or that name none."""
    parts = re.split(r"^```(.*)\n", (REPOSITORY / path).read_text(), flags=re.MULTILINE)
    # Text, opening fence, block, closing fence, text, …
    return [block for fence, block in zip(parts[1::4], parts[2::4], strict=True) if fence.strip() == language]


def test_the_python_example_of_the_readme_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("README.md", "python")
    rng = np.random.default_rng(0)
    columns = ["helpful", "harmless", "people", "reward_model"]
    frame = pl.DataFrame({name: rng.choice([-1, 0, 1], 60) for name in columns} | {"topic": ["x"] * 60})
    for given in (frame, frame.to_pandas(), frame.to_arrow()):
        names: dict = {"frame": given}
        exec(compile(code, "README.md", "exec"), names)
        assert names["result"].discrepancy.height == 1
        again = discretion.load("audits/mine")
        assert again.discrepancy.equals(names["result"].discrepancy, null_equal=True)
        assert again.annotators == ("people", "reward_model")


def readme_study(folder: Path) -> None:
    """Write the files that the README's study.toml names."""
    table = votes_table(80)
    ids = table.ids.to_list()
    folder.mkdir(exist_ok=True)
    rows = [f'{{"id": "{i}", "prompt": "q", "chosen": "one {i}", "rejected": "two"}}' for i in ids]
    (folder / "comparisons.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "principles.txt").write_text("\n".join(PRINCIPLES) + "\n")
    write_csv(folder / "oracle.csv", ("id", *PRINCIPLES), zip(ids, *table.X.T.tolist(), strict=True))
    write_csv(folder / "people.csv", ("id", "value"), zip(ids, table.annotators[0].values.tolist(), strict=True))
    scores = [(i, 0.5 * v, 0.0) for i, v in zip(ids, table.annotators[1].values.tolist(), strict=True)]
    for name in ("scores.csv", "new_scores.csv"):
        write_csv(folder / name, ("id", "reward_a", "reward_b"), scores)


@pytest.mark.slow
def test_the_study_and_the_commands_of_the_readme_work(tmp_path: Path) -> None:
    (toml,) = blocks("README.md", "toml")
    readme_study(tmp_path)
    (tmp_path / "study.toml").write_text(toml)
    study = discretion.load_study(tmp_path)
    assert study.name == "Support answers, March"
    assert {"people", "reward_model"} <= set(study.table.annotator_names)
    (commands,) = [b for b in blocks("README.md", "") if "discretion diff" in b]
    assert command("audit", "study.toml", "--out", "audits/february", cwd=tmp_path).returncode == 0
    lines = [line.replace('"', "") for line in commands.strip().splitlines()]
    assert len(lines) == 3
    for line in lines:
        program, *arguments = line.split()
        assert program == "discretion"
        done = command(*arguments, cwd=tmp_path)
        assert done.returncode == 0, (line, done.stderr)
    assert (tmp_path / "relabel.csv").is_file()


def test_the_studies_of_the_documentation_load(tmp_path: Path) -> None:
    whole, wide = blocks("docs/studies.md", "toml")
    keys = tomllib.loads(whole)
    readme_study(tmp_path)
    frame = pl.read_ndjson(tmp_path / "comparisons.jsonl").rename(
        {"id": "key", "prompt": "question", "chosen": "answer_1", "rejected": "answer_2"}
    )
    frame.with_columns(pl.lit("t").alias("topic")).write_parquet(tmp_path / "comparisons.parquet")
    texts = "".join(f'[[principles]]\nname = "{p}"\ntext = "{p}"\n' for p in PRINCIPLES)
    (tmp_path / "principles.toml").write_text(texts)
    lines = [line for line in whole.splitlines() if not line.startswith("short_path")]  # for text files
    (tmp_path / "study.toml").write_text("\n".join(lines))
    table = votes_table(80)
    asked = [(i, order, 0.5, 0.25, 0.25) for i in table.ids for order in (0, 1)]
    write_csv(tmp_path / "judge.csv", ("id", "order", "prob_A", "prob_B", "prob_NA"), asked)
    study = discretion.load_study(tmp_path / "study.toml")
    assert study.cluster == "topic"
    assert study.settings == keys["settings"]

    votes = {name: [1, -1, 0] for name in ("helpful", "harmless", "people", "model")}
    pl.DataFrame({"key": ["a", "b", "c"], "topic": ["x"] * 3, **votes}).write_parquet(tmp_path / "votes.parquet")
    (tmp_path / "wide.toml").write_text(wide)
    table = discretion.load_study(tmp_path / "wide.toml").table
    assert table.annotator_names == ("people", "model")
    assert table.attributes.columns == ["topic"]
