"""The command: exit codes, one JSON document, quiet, seeds, and what is left when it fails or is killed."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner, Result

import discretion
from discretion.cli import app
from discretion.saved import load

from .studies import EXAMPLE, command, environment, start, votes_table, write_csv, write_study

pytestmark = pytest.mark.slow

VERBS = ("audit", "show", "diff", "influence", "reproduce")
FAST = ("--replicates", "20")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("small"), votes_table())


@pytest.fixture(scope="module")
def saved(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "audit"
    assert invoke("audit", study, "--out", folder, *FAST).exit_code == 0
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")


def invoke(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def only_document(text: str | bytes) -> dict:
    """Read standard output as exactly one strict JSON document on one line."""
    text = text.decode() if isinstance(text, bytes) else text
    assert text.endswith("\n")
    assert text.count("\n") == 1
    assert text.isascii()
    return json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))


def good_runs(study: Path, saved: Path) -> dict[str, tuple[object, ...]]:
    return {
        "audit": ("audit", study, *FAST),
        "show": ("show", saved),
        "diff": ("diff", saved, saved, *FAST),
        "influence": ("influence", saved, "--annotator", "model"),
    }


@pytest.mark.parametrize("verb", VERBS[:4])
def test_a_good_run(verb: str, study: Path, saved: Path) -> None:
    run = good_runs(study, saved)[verb]
    loud, quiet, machine = (command(*run, *more) for more in ((), ("--quiet",), ("--json",)))
    assert (loud.returncode, quiet.returncode, machine.returncode) == (0, 0, 0)
    assert quiet.stderr == b""
    assert loud.stdout == quiet.stdout != b""
    assert "error" not in only_document(machine.stdout)
    assert b"Saved in" not in loud.stdout
    assert (b"Saved in audits" in loud.stderr) == (verb == "audit")


def test_progress_and_colour_never_reach_the_document(study: Path) -> None:
    done = command("audit", study, *FAST, "--json", env={"FORCE_COLOR": "1", "TERM": "xterm-256color"})
    assert done.returncode == 0
    only_document(done.stdout)
    assert b"\x1b[" in done.stderr  # the progress is there, in its place
    done = command("audit", study, *FAST, "--json", "--quiet", env={"FORCE_COLOR": "1", "TERM": "xterm-256color"})
    assert done.stderr == b""


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("audit",),
        ("audit", "absent"),
        ("audit", "{study}", "--replicates", "-1"),
        ("audit", "{study}", "--replicates", "many"),
        ("audit", "{study}", "--seed", "-1"),
        ("audit", "{study}", "--threads", "0"),
        ("audit", "{study}", "--prior", "gaussian"),
        ("audit", "{study}", "--prior", "gaussian:-1"),
        ("audit", "{study}", "--prior", "other:1"),
        ("audit", "{study}", "--annotator", "model"),
        ("audit", "{study}", "--annotator", "=file"),
        ("audit", "{study}", "--annotator", "x=absent.csv"),
        ("audit", "{study}", "--annotator", "x={study}/oracle.csv", "--annotator", "x={study}/oracle.csv"),
        ("audit", "{study}", "--nonsense"),
        ("show", "absent"),
        ("show", "{saved}", "extra"),
        ("diff", "{saved}"),
        ("diff", "{saved}", "absent"),
        ("diff", "{saved}", "{saved}", "--fail-if", "nonsense"),
        ("influence", "{saved}"),
        ("influence", "{saved}", "--annotator", "model", "--figure", "supremacy"),
        ("influence", "{saved}", "--annotator", "model", "--out", "x.xlsx"),
        ("influence", "{saved}", "--annotator", "model", "--top", "0"),
        ("reproduce", "other"),
        ("reproduce", "hh", "--data", "absent"),
        ("nonsense",),
    ],
)
def test_wrong_use(arguments: tuple[str, ...], study: Path, saved: Path) -> None:
    result = invoke(*(a.format(study=study, saved=saved) for a in arguments))
    assert result.exit_code == 2
    assert "Usage: " in result.output
    assert os.listdir() == []
    if arguments:
        assert result.stdout == ""


def broken(study: Path, tmp_path: Path, file: str, old: str, new: str) -> Path:
    copy = tmp_path / "broken"
    shutil.copytree(study, copy)
    text = (copy / file).read_text()
    assert old in text
    (copy / file).write_text(text.replace(old, new, 1))
    return copy


@pytest.mark.parametrize(
    ("file", "old", "new", "named"),
    [
        ("annotators/model.csv", "c2,", "c2,7", ("model.csv", "row 3", "'value'")),
        ("annotators/people.csv", "c4,", "c3,", ("people.csv", "row 5", "row 4")),
        ("annotators/people.csv", "id,value", "id,novalue", ("people.csv", "novalue")),
        ("oracle.csv", "\nc5,", "\nc5,x", ("oracle.csv", "row 6", "Be helpful")),
        ("comparisons.csv", "c7,", "c6,", ("comparisons.csv", "row 8", "'id'")),
        ("study.toml", "[oracle]", "[orakel]", ("study.toml", "'orakel'", "oracle")),
        ("study.toml", "oracle.csv", "absent.csv", ("absent.csv",)),
        ("study.toml", 'name = "small"', "name = ", ("study.toml", "TOML")),
    ],
)  # fmt: skip
def test_broken_data_are_named_and_leave_nothing(
    study: Path, tmp_path: Path, file: str, old: str, new: str, named: tuple[str, ...]
) -> None:
    copy = broken(study, tmp_path, file, old, new)
    for out in (("--out", "out"), ()):
        result = invoke("audit", copy, *FAST, *out)
        assert result.exit_code == 1
        assert result.stdout == ""
        for part in named:
            assert part in result.stderr
        assert "Traceback" not in result.stderr
        assert os.listdir() == ["broken"]
    document = only_document(invoke("audit", copy, *FAST, "--json").stdout)
    assert set(document) == {"error"}
    assert set(document["error"]) == {"type", "message"}
    assert named[0] in document["error"]["message"]


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ('replicates = "many"', "replicates"),
        ("replicates = -1", "replicates"),
        ("seed = -4", "seed"),
        ("seed = 1.5", "seed"),
        ("seed = true", "seed"),
        ("threads = 0", "threads"),
        ("confidences = 0.5", "confidences"),
        ('confidences = ["a"]', "confidences"),
        ("confidences = [1.5]", "confidences"),
        ("prior = 5", "prior"),
        ('prior = "other:1"', "prior"),
        ("reference = 5", "reference"),
        ('reference = "nobody"', "nobody"),
        ('cluster = "nowhere"', "nowhere"),
        ("replicate = 5", "replicate"),
    ],
)
def test_a_wrong_setting_of_a_study_is_named(tmp_path: Path, setting: str, named: str) -> None:
    folder = write_study(tmp_path / "study", votes_table(20), setting)
    result = invoke("audit", folder, "--out", "out")
    assert result.exit_code == 1
    assert named in result.stderr
    assert not Path("out").exists()


@pytest.mark.parametrize("verb", ["show", "diff", "influence"])
def test_a_folder_that_is_no_audit_fails(verb: str, study: Path, saved: Path) -> None:
    os.mkdir("empty")
    arguments = {
        "show": ("show", "empty"),
        "diff": ("diff", saved, "empty"),
        "influence": ("influence", "empty", "--annotator", "x"),
    }
    result = invoke(*arguments[verb])
    assert result.exit_code == 1
    assert "empty" in result.stderr
    assert set(only_document(invoke(*arguments[verb], "--json").stdout)) == {"error"}
    unknown = invoke("influence", saved, "--annotator", "nobody", "--json")
    assert unknown.exit_code == 1
    assert "nobody" in only_document(unknown.stdout)["error"]["message"]


def test_a_saved_audit_is_not_audited_again(saved: Path) -> None:
    result = invoke("audit", saved, "--out", "out")
    assert result.exit_code == 1
    assert "saved audit already" in result.stderr
    assert "discretion show" in result.stderr
    assert not Path("out").exists()


def test_what_stands_in_the_way_is_left_alone(study: Path) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("x")
    result = invoke("audit", study, *FAST, "--out", "mine")
    assert result.exit_code == 1
    assert os.listdir("mine") == ["thesis.txt"]
    assert os.listdir() == ["mine"]


def test_the_seed_reproduces_and_changes(study: Path) -> None:
    one, again, other = (only_document(invoke("audit", study, *FAST, "--seed", s, "--json").stdout) for s in (1, 1, 2))
    assert one == again
    assert one["discrepancy"] != other["discrepancy"]
    assert one["arbitrariness"][0]["estimate"] == other["arbitrariness"][0]["estimate"]
    assert (one["settings"]["seed"], other["settings"]["seed"]) == (1, 2)
    few, many = (invoke("audit", study, *FAST, "--threads", t, "--json").stdout for t in (1, 2))
    assert few == many


def test_the_seed_of_a_diff(study: Path, saved: Path, tmp_path: Path) -> None:
    table = votes_table(100, 4)
    other = write_study(tmp_path / "other", table)
    run = ("diff", saved, other, *FAST, "--json")
    one, again, two = (only_document(invoke(*run, "--seed", s).stdout)["figures"] for s in (1, 1, 2))
    assert one == again
    assert one != two


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example_that_names_the_verb(verb: str) -> None:
    done = command(verb, "--help")
    assert done.returncode == 0
    assert f"Example: discretion {verb} " in " ".join(done.stdout.decode().split())
    for option in ("--json", "--quiet", "--seed"):
        assert option in done.stdout.decode()
    assert max(map(cell_len, done.stdout.decode().splitlines())) <= 80


def test_help_and_version() -> None:
    done = command("--help")
    assert done.returncode == 0
    assert all(verb in done.stdout.decode() for verb in VERBS)
    assert "Exit codes: 0 done, 1 the run failed, 2 wrong use." in " ".join(done.stdout.decode().split())
    assert command("--version").stdout.decode() == f"discretion {discretion.__version__}\n"


def test_more_annotators(study: Path) -> None:
    ids = [f"c{k}" for k in range(120)]
    write_csv(Path("values.csv"), ("id", "value"), [(i, (-1) ** k) for k, i in enumerate(ids)])
    write_csv(Path("scores.csv"), ("id", "reward_a", "reward_b"), [(i, k % 3, 1) for k, i in enumerate(ids)])
    result = invoke(
        "audit", study, *FAST, "--annotator", "mine=values.csv", "--annotator", "rm=scores.csv::reward", "--json"
    )
    assert result.exit_code == 0
    kinds = {a["name"]: a for a in only_document(result.stdout)["annotators"]}
    assert list(kinds) == ["people", "model", "mine", "rm"]
    assert kinds["rm"]["source"].startswith("reward")
    audited = load(Path("audits") / study.name)
    assert audited.table.annotator("rm").values.tolist()[:4] == [-1, 0, 1, -1]
    for wrong, named in (("rm=scores.csv::values", "scores.csv"), ("rm=scores.csv::rewards", "'rewards'"),
                         ("model=values.csv", "'model'")):  # fmt: skip
        result = invoke("audit", study, *FAST, "--annotator", wrong, "--out", "no")
        assert result.exit_code == 1
        assert named in result.stderr
    assert not Path("no").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="arguments are bytes elsewhere")
def test_names_that_are_no_unicode_are_refused(study: Path, tmp_path: Path) -> None:
    values = study / "annotators" / "model.csv"
    done = command("audit", study, "--annotator", f"caf\udce9={values}", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert b"not valid Unicode" in done.stderr
    copy = shutil.copytree(study, tmp_path / "copy")
    texts = ["Be helpful", "Avoid harm", "Be honest", "Be brief \ud800"]
    (copy / "constitution.json").write_text(json.dumps(texts))
    toml = (copy / "study.toml").read_text().replace("principles.txt", "constitution.json")
    (copy / "study.toml").write_text(toml)
    result = invoke("audit", copy, "--out", "out")
    assert result.exit_code == 1
    assert "not valid Unicode" in result.stderr
    assert os.listdir(tmp_path) == ["copy"]


def test_options_go_before_the_settings_of_the_study(tmp_path: Path) -> None:
    lines = 'replicates = 7\nseed = 5\nreference = "model"\ncluster = "topic"\nprior = "gaussian:2"\nswaps = 3'
    folder = write_study(tmp_path / "study", votes_table(), lines)
    kept = only_document(invoke("audit", folder, "--json").stdout)["settings"]
    assert (kept["replicates"], kept["seed"], kept["reference"], kept["cluster"], kept["prior"], kept["swaps"]) == (
        7, 5, "model", "topic", "gaussian:2", 3,
    )  # fmt: skip
    options = ("--replicates", 9, "--seed", 0, "--reference", "people", "--prior", "pseudocount:1")
    given = only_document(invoke("audit", folder, *options, "--cluster", "prompt", "--json").stdout)["settings"]
    assert (given["replicates"], given["seed"], given["reference"], given["cluster"], given["prior"]) == (
        9, 0, "people", "prompt", "pseudocount:1",
    )  # fmt: skip
    assert (given["unit"], given["units"]) == ("cluster", 60)


def test_texts_are_saved_unless_refused(study: Path) -> None:
    assert invoke("audit", study, *FAST, "--out", "with").exit_code == 0
    assert invoke("audit", study, *FAST, "--out", "without", "--no-texts").exit_code == 0
    assert load("with").comparisons["c3"].first == "one 3"
    assert load("without").comparisons is None


def test_show_prints_what_audit_printed(study: Path) -> None:
    for more in ((), ("--json",)):
        audited = invoke("audit", study, *FAST, "--out", "a", *more)
        assert invoke("show", "a", *more).stdout == audited.stdout


SGR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.parametrize("colour", [{"NO_COLOR": "1"}, {"FORCE_COLOR": "1", "TERM": "xterm-256color"}])
@pytest.mark.parametrize("verb", VERBS[:4])
def test_output_fits_eighty_columns(verb: str, colour: dict[str, str], study: Path, saved: Path) -> None:
    arguments = ("audit", EXAMPLE, *FAST) if verb == "audit" else good_runs(study, saved)[verb]
    done = command(*arguments, "--quiet", env=colour)
    assert done.returncode == 0
    text = done.stdout.decode()
    assert ("\x1b[" in text) == ("FORCE_COLOR" in colour)
    lines = SGR.sub("", text).split("\n")
    assert len(lines) > 5
    for line in lines:
        assert cell_len(line) <= 80, line


@pytest.fixture(scope="module")
def slow_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("slow"), votes_table(400))


SLOW = ("--replicates", "3000", "--threads", "1", "--quiet")


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_an_interrupt_leaves_nothing(slow_study: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        start("audit", slow_study, "--out", tmp_path / "out", "--replicates", 100_000, "--threads", 1, "--json"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment({"FORCE_COLOR": "1", "TERM": "xterm"}),
    )  # fmt: skip
    os.set_blocking(process.stderr.fileno(), True)
    seen = b""
    stages = (b"resampling", b"noise floor", b"label swaps", b"other readings")  # well into the work
    while not any(stage in seen for stage in stages) and process.poll() is None:
        seen += process.stderr.read1(4096)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode not in (0, None)
    assert b"Traceback" not in err
    assert only_document(out)["error"]["type"] == "interrupted"
    assert b"Interrupted" in err
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_a_killed_run_leaves_a_whole_audit_or_none(slow_study: Path, tmp_path: Path) -> None:
    begun = time.monotonic()
    assert command("audit", slow_study, "--out", tmp_path / "old", "--seed", 7, *SLOW).returncode == 0
    length = time.monotonic() - begun
    moments = random.Random(0)
    killed = 0
    for k in range(10):
        replaced = k % 2 == 0
        out = tmp_path / ("old" if replaced else f"new{k}")
        process = subprocess.Popen(
            start("audit", slow_study, "--out", out, "--seed", 8, *SLOW),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(),
        )  # fmt: skip
        try:
            # Spread over the run, denser towards its end, where it writes.
            process.wait(length * (1 - 0.9 * (k / 10) ** 2) * moments.uniform(0.95, 1.0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
        if replaced or out.exists():
            audited = load(out)
            assert audited.settings.seed in (7, 8)
            assert audited.settings.replicates == 3000
    assert killed >= 3


def test_a_closed_pipe_is_no_crash(study: Path, saved: Path) -> None:
    process = subprocess.Popen(start("show", saved), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    process.wait(timeout=60)
    assert b"Traceback" not in err


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_standard_output_that_is_not_utf8(saved: Path, encoding: str) -> None:
    for more in ((), ("--json",)):
        done = command("show", saved, *more, env={"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"})
        assert done.returncode == 0, done.stderr
        assert b"arbitrariness" in done.stdout
    only_document(done.stdout)
