"""The command line: every verb on small files; every mistake is one sentence, exit status 2 and nothing left behind.

The verbs run in this process, through the runner that Typer has for tests; what a process alone can show (how fast help
is, a full disk) runs in one of its own.
"""

import ast
import json
import os
import pydoc
import re
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.main import get_command
from typer.testing import CliRunner

import herd
from herd.cli import app
from herd.cli.help import SETTINGS
from herd.corpus.documents import DocumentWriter, document_schema

Shell = Callable[..., Result]
MODULES = ("textwrap", "shutil", "os", "statistics", "heapq", "csv", "calendar", "functools", "string", "random")
HERD = [sys.executable, "-c", "from herd.cli import main; main()"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with pages of one's own."""
    place = tmp_path_factory.mktemp("shop")
    (place / "site").mkdir()
    renderer = pydoc.HTMLDoc()
    for name in MODULES:
        module, _ = pydoc.resolve(name)
        (place / "site" / f"{name}.html").write_text(renderer.page(name, renderer.document(module, name)))
    return place


@pytest.fixture
def shell(shop: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """``shell("verb", ...)`` in the directory ``shop``."""
    monkeypatch.chdir(shop)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(result: Result) -> str:
    """The one sentence of a refusal."""
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    sentences = [line for line in result.stderr.splitlines() if line.startswith("herd: ")]
    assert len(sentences) == 1, result.output
    assert result.stderr.splitlines()[-1] == sentences[0]
    return sentences[0]


def test_the_verbs_lead_from_pages_of_ones_own_to_a_model(shell: Shell, shop: Path) -> None:
    small = ("--set", "compile=off", "--set", "held_out_tokens=500", "--set", "sequence_length=64")
    (shop / "chat.jsonl").write_text(
        json.dumps({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}) + "\n"
    )
    (shop / "sft.yaml").write_text("compile: off\nepochs: 1\n")
    answers = {name: [{"role": "assistant", "content": text}] for name, text in (("chosen", "A"), ("rejected", "B"))}
    (shop / "pairs.jsonl").write_text(json.dumps({"prompt": [{"role": "user", "content": "Hi"}], **answers}) + "\n")
    for line in (
        ("pages", "site", "--out", "pages"),
        ("curate", "pages", "--out", "corpus", "--set", "quality.drop=0.0"),
        ("index", "corpus", "--out", "index"),
        ("tokenizer", "corpus", "--out", "tokenizer", "--set", "vocab_size=768"),
        ("tokenize", "corpus", "tokenizer", "--out", "tokens"),
        ("pretrain", "tokens", "tokenizer", "--shape", "0.5m", "--out", "base", "--set", "tokens=600", *small),
        ("pretrain", "tokens", "tokenizer", "--init", "base", "--out", "longer", "--set", "tokens=600", *small),
        ("sft", "longer", "chat.jsonl", "--out", "sft", "--config", "sft.yaml"),
        ("reward", "base", "pairs.jsonl", "--out", "judge", "--config", "sft.yaml", "--set", "held_out=0"),
        ("dpo", "sft", "pairs.jsonl", "--out", "dpo", "--config", "sft.yaml"),
        ("average", "sft", "dpo", "--out", "chat"),
    ):
        result = shell(*line)
        assert result.exit_code == 0, (line, result.output, result.exception)
        assert (shop / line[line.index("--out") + 1] / "manifest.json").is_file()
        again = shell(*line)
        assert "nothing to do" in again.output, (line, again.output)
    config = json.loads((shop / "chat" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["vocab_size"] == 768
    origin = shell("lineage", "chat").output
    for word in ("model 1: sft", "base: longer", "init: base", "tokens: tokens", "corpus: corpus", "pages: pages"):
        assert word in origin
    assert "dialogues 1 chat.jsonl (" in origin
    assert not [path for path in shop.iterdir() if path.name.startswith(".")]


RECIPE = (Path(herd.__file__).parent / "recipes" / "mini.yaml").read_text()


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("seed: 7", "sed: 7", r"mine.yaml, line 4: sed: there is no such key; did you mean seed?"),
        ("seed: 7", "seed: many", r"mine.yaml, line 4: seed: input should be a valid integer"),
        ("seed: 7", "seed: [1", r"mine.yaml, line 6: not YAML"),
        ("shape: 0.5m", "shape: 9z", r"mine.yaml: members.tiny.shape: there is no pocket size '9z'"),
        ("vocab_size: 1024", "vocab_size: 12", r"tokenizer.vocab_size: input should be greater than or equal to"),
        ("flagship: small", "flagship: giant", r"flagship is giant, which is none of the members tiny, small"),
        ("lengths: [512, 1024]", "lengths: [1024, 512]", r"lengths must ascend"),
        ("name: mini", "", r"mine.yaml: name: the key is missing"),
    ],
)
def test_a_mistake_in_a_recipe_is_named_with_its_place(
    shell: Shell, shop: Path, before: str, after: str, sentence: str
) -> None:
    assert before in RECIPE
    (shop / "mine.yaml").write_text(RECIPE.replace(before, after, 1))
    assert sentence in refused(shell("plan", "mine.yaml"))
    assert sentence in refused(shell("run", "mine.yaml", "--dry-run"))


def test_a_recipe_that_is_not_there_or_asks_for_what_is_not_there(shell: Shell, shop: Path) -> None:
    assert "nowhere: there is no such file" in refused(shell("run", "nowhere"))
    sources = "pages.sources=[{kind: html, paths: [nowhere/]}]"
    sentence = refused(shell("run", "mini", "--set", f"output={shop}/lost", "--set", sources))
    assert "nowhere/: there is no such file or folder" in sentence
    assert not (shop / "lost" / "pages").exists()


def test_files_that_cannot_be_read_are_named(shell: Shell, shop: Path) -> None:
    noise = bytes(range(256)) * 20
    (shop / "noise").mkdir()
    for ending, text in {"warc": "not readable as WARC", "parquet": "not readable as Parquet"}.items():
        (shop / "noise" / f"x.{ending}").write_bytes(noise)
        assert f"noise/x.{ending}: {text}" in refused(shell("pages", "noise", "--kind", ending, "--out", "new"))
    (shop / "noise" / "x.html").write_bytes(noise)
    assert "noise/x.html: not HTML" in refused(shell("pages", "noise", "--out", "new"))
    (shop / "noise" / "x.jsonl").write_text('\n{"text\n')
    assert "x.jsonl, line 2: not JSON" in refused(shell("pages", "noise", "--kind", "jsonl", "--out", "new"))
    (shop / "cut" / "documents").mkdir(parents=True)
    pq.write_table(pa.table({"text": ["a" * 5000]}), shop / "cut" / "documents" / "0.parquet")
    os.truncate(shop / "cut" / "documents" / "0.parquet", 200)
    assert "documents/0.parquet: not readable as Parquet" in refused(shell("tokenizer", "cut", "--out", "new"))
    assert left_behind(shop) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_source_that_may_not_be_read_is_named(shell: Shell, shop: Path) -> None:
    (shop / "closed.html").write_text("<p>words</p>")
    (shop / "closed.html").chmod(0)
    assert "closed.html: not readable" in refused(shell("pages", "closed.html", "--out", "new"))


def test_nothing_to_work_on_is_named(shell: Shell, shop: Path) -> None:
    (shop / "empty").mkdir()
    (shop / "blank.html").write_text(" ")
    with DocumentWriter(shop / "none" / "documents", document_schema(())):
        pass
    lines = {
        ("pages", "blank.html"): "gave no page at all",
        ("curate", "empty"): "empty: holds no pages",
        ("curate", "empty", "--against", "none"): "none: holds no index to compare with",
        ("tokenizer", "none"): "none/documents: the corpus is empty",
        ("tasks", "empty"): "empty/passages.parquet: there is no such file",
        ("tokenize", "nowhere", "empty"): "nowhere: there is no such file or directory (corpus of herd tokenize)",
        ("sft", "empty", "empty"): "empty: is no model, it holds no config.json",
        ("average", "empty"): "empty: is no model, it holds no config.json",
    }
    for line, sentence in lines.items():
        assert sentence in refused(shell(*line, "--out", "new"))
    for line, sentence in {
        ("chat", "empty"): "holds no model",
        ("report", "empty"): "is neither a corpus nor a run",
    }.items():
        assert sentence in refused(shell(*line))
    assert "holds no manifest.json" in refused(shell("lineage", "empty"))
    assert left_behind(shop) == []


def left_behind(shop: Path) -> list[str]:
    """What a refused call left of ``--out new``."""
    return [path.name for path in shop.iterdir() if "new" in path.name]


def test_settings_are_held_to_their_rules(shell: Shell) -> None:
    assert "did you mean vocab_size?" in refused(shell("tokenizer", "x", "--out", "new", "--set", "vocab=300"))
    assert "the setting tokens must be given: --set tokens=" in refused(
        shell("pretrain", "x", "y", "--shape", "1m", "--out", "new")
    )
    either = shell("pretrain", "x", "y", "--out", "new", "--set", "tokens=9")
    assert "either --shape, to begin anew, or --init" in refused(either)
    assert "nowhere.yaml: there is no such file" in refused(
        shell("sft", "x", "y", "--out", "z", "--config", "nowhere.yaml")
    )


def test_a_wrong_model_is_named(shell: Shell, shop: Path) -> None:
    (shop / "other").mkdir()
    (shop / "other" / "config.json").write_text('{"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}')
    assert "other/config.json" in refused(shell("sft", "other", "chat.jsonl", "--out", "new"))
    assert "other" in refused(shell("serve", "other", "--port", "0"))


def test_a_port_in_use_is_named(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port}: cannot listen there" in refused(shell("serve", "anything", "--port", port))


def test_a_directory_of_ones_own_is_not_written_over(shell: Shell, shop: Path) -> None:
    (shop / "diary").mkdir(exist_ok=True)
    (shop / "diary" / "monday.txt").write_text("rain")
    assert "diary: is already there" in refused(shell("pages", "site", "--out", "diary"))
    assert "Not a directory" in refused(shell("pages", "site", "--out", "diary/monday.txt/pages"))
    assert [path.name for path in (shop / "diary").iterdir()] == ["monday.txt"]


def test_an_unknown_verb_or_option_is_a_mistake() -> None:
    for line in (["nonsense"], ["run"], ["run", "mini", "--fast"], ["serve", "x", "--port", "many"]):
        assert CliRunner().invoke(app, line).exit_code == 2


def test_the_version_is_printed() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"herd {herd.__version__}\n"


def test_help_answers_at_once() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run([*HERD, "--help"], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "pretrain" in result.stdout
    # Processor time, since the machine may be busy.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0
    loaded = "import sys, herd.cli; print([n for n in ('torch', 'pydantic', 'pyarrow', 'numpy') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_help_lists_every_verb_in_one_line_of_eighty_columns() -> None:
    for group in ((), ("scale",), ("fetch",), ("quality",)):
        told = CliRunner().invoke(app, [*group, "--help"], env={"COLUMNS": "80"}, terminal_width=80).output
        command = get_command(app)
        for name in group:
            command = command.commands[name]
        for name in command.commands:
            assert re.search(rf"^  {name} +\w.*[.]$", told, re.MULTILINE), (name, told)
        assert not re.search(r"[.]{3}$", told.partition("ARGS]...")[2], re.MULTILINE), told


def settled_verbs() -> dict[str, str]:
    """By function: the configuration that each verb reads, as its source says."""
    found = {}
    for path in Path(herd.cli.__file__).parent.glob("*.py"):
        for verb in ast.parse(path.read_text(encoding="utf-8")).body:
            read = re.search(r"read_settings\((\w+Config),", ast.unparse(verb))
            if isinstance(verb, ast.FunctionDef) and read:
                found[verb.name] = read[1]
    return found


def test_help_shows_the_settings_that_a_verb_reads() -> None:
    shown = {verb: name.partition(":")[2] for verb, name in SETTINGS.items()}
    assert shown == settled_verbs() | {"pages": "HtmlSource"}
    told = CliRunner().invoke(app, ["pretrain", "--help"], terminal_width=100).output
    for line in ("tokens=…  +tokens to train on", "warmup=0.02  +share of the steps", "mix.max_epochs=null"):
        assert re.search(rf"^  {line}", told, re.MULTILINE), told
    assert re.search(r"vocab_size=8192 +Ids in all", CliRunner().invoke(app, ["tokenizer", "--help"]).output)
    assert "isoflop.budgets=…" in CliRunner().invoke(app, ["scale", "run", "--help"]).output
    assert "kind=" not in CliRunner().invoke(app, ["pages", "--help"]).output


def test_paths_take_the_settings_of_their_kind_of_source(shell: Shell, shop: Path) -> None:
    (shop / "rows.jsonl").write_text(json.dumps({"body": "A text about sheep. " * 9}) + "\n")
    made = shell("pages", "rows.jsonl", "--kind", "jsonl", "--out", "rows", "--set", "content=body")
    assert made.exit_code == 0, made.output
    [page] = pq.read_table(shop / "rows" / "pages").to_pylist()
    assert page["content"].startswith("A text about sheep.")
    sentence = refused(shell("pages", "site", "--out", "new", "--set", "content=body"))
    assert "content: there is no such key" in sentence
    assert "sources: there is no such key" in refused(shell("pages", "site", "--out", "new", "--set", "sources=[]"))


FULL_DISK = """
mount -t tmpfs -o size=400k tmpfs disk || exit 99
dd if=/dev/zero of=disk/ballast bs=1k count={ballast} status=none
"$@"; echo "status $?"; ls disk; rm disk/ballast; "$@"; echo "status $?"; ls disk
"""


@pytest.mark.parametrize("ballast", [396, 372])
def test_a_full_disk_leaves_nothing_half_written_and_the_next_call_goes_on(shop: Path, ballast: int) -> None:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-Urm", "true"], capture_output=True).returncode:
        pytest.skip("no small disk can be mounted: this kernel gives no user namespace")
    (shop / "disk").mkdir(exist_ok=True)
    line = [*HERD, "pages", "site", "--out", "disk/pages"]
    command = ["unshare", "-Urm", "sh", "-c", FULL_DISK.format(ballast=ballast), "sh", *line]
    result = subprocess.run(command, capture_output=True, text=True, cwd=shop, check=False)
    if result.returncode == 99:
        pytest.skip("no small disk can be mounted")
    assert result.stdout.splitlines() == [
        "status 2", "ballast", "disk/pages: made in " + result.stdout.split("made in ")[1].splitlines()[0],
        "status 0", "pages",
    ]  # fmt: skip
    assert "no space left on the disk" in result.stderr
    assert "Traceback" not in result.stderr
