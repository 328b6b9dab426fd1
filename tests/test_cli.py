"""The command line: its help, its suggestions, and the options that it reads from the verbs' functions."""

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dynfocus.cli import LIGHTNING, VERBS, build_parser, main, read_options
from dynfocus.errors import UsageError

ROOT = Path(__file__).parents[1]
FIT = ["fit", "--config", "lightning_configs/stage2.yaml", "--config", "lightning_configs/world.yaml"]
Capture = pytest.CaptureFixture[str]


def help_of(verb: str, capsys: Capture) -> str:
    """What `--help` of a verb prints."""
    with pytest.raises(SystemExit, match="0"):
        main([*verb.split(), *(["FILE"] if verb.endswith("--config") else []), "--help"])
    return capsys.readouterr().out


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_every_option_with_its_text_and_default(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    entries = {entry.split()[0].rstrip(","): entry for entry in re.split(r"\n  (?=\S)", help_of(verb, capsys))}
    actions = {action.dest: action for action in build_parser(verb, VERBS[verb])._actions if action.dest != "help"}
    assert {*inspect.signature(VERBS[verb]).parameters} - {"settings", "options"} <= set(actions)
    for action in actions.values():
        text, _, about = entries[action.option_strings[0] if action.option_strings else action.dest].rpartition(" (")
        assert action.help
        assert " ".join(action.help.split()) in " ".join(text.split())
        if action.required:
            assert about.startswith("required")
        else:
            assert f"default: {'null' if action.default is None else action.default})" in about


def test_no_option_is_declared_twice() -> None:
    for verb, function in VERBS.items():
        options = [word for action in build_parser(verb, function)._actions for word in action.option_strings]
        assert len(options) == len(set(options))
        assert not any("_" in option for option in options)


@pytest.mark.parametrize("verb", VERBS)
def test_help_ends_with_an_example_that_parses(verb: str, capsys: Capture) -> None:
    shown = help_of(verb, capsys).splitlines()[-1]
    assert (
        shown.startswith(f"example: dynfocus {verb.removesuffix(' --config')} ")
        or shown == "example: dynfocus figure 4"
    )
    words = shlex.split(shown.removeprefix(f"example: dynfocus {verb.removesuffix(' --config')}"))
    options = read_options(verb, words)
    inspect.signature(VERBS[verb]).bind(**options)
    if "settings" in options:
        assert options["settings"][:2] == ["--config", words[1]]
        assert (ROOT / words[1]).is_file()


def test_the_whole_help_names_every_verb(capsys: Capture) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert re.findall(r"^  (\S+(?: \S+)?)  ", shown, flags=re.M) == [*LIGHTNING, *VERBS]
    assert main(["figure", "--help"]) == 0
    assert capsys.readouterr().out == shown


def test_the_version_is_the_installed_one(capsys: Capture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dynfocus {version('dynfocus')}\n"


@pytest.mark.parametrize("args", [["plan", "--help"], ["export", "--help"], ["--help"], ["--version"], ["towers", "x"]])
def test_help_and_mistakes_import_nothing_heavy(args: list[str]) -> None:
    code = f"""
import sys
from dynfocus.cli import main
try:
    main({args})
except SystemExit:
    pass
sys.exit(", ".join({{"torch", "transformers", "lightning", "numpy"}} & set(sys.modules)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        ("plna --frames 16", "plan"),
        ("tabel runs", "table"),
        ("valdiate", "validate"),
        ("figure 1", "figure 1a"),
        ("plan --fames 16", "--frames"),
        ("plan --frame 16", "--frames"),
        ("ask video question --max_new_token 3", "--max-new-tokens"),
        ("ask video question --swapp", None),
        ("world out --sed 3", "--seed"),
        ("doctor --config a.yaml --worker 3", "--workers"),
        ("sketch --config a.yaml --shards 0/8", "--shard"),
        ("--versions", None),
        ("", None),
    ],
)
def test_a_mistyped_word_is_one_sentence_with_the_nearest_name(
    command: str, meant: str | None, capsys: Capture
) -> None:
    assert main(command.split()) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("dynfocus: ")
    assert output.err.count("\n") == 1
    assert (f"Did you mean {meant}?" in output.err) if meant else ("Did you mean" not in output.err)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("model.conector.events", "model.connector.events"),
        ("trainer.max_epoch", "trainer.max_epochs"),
        ("modle.lr", "model.lr"),
        ("data.init_args.batchsize", "batch_size"),
        ("trainer.nonsense", None),
    ],
)
def test_a_mistyped_setting_is_one_sentence_with_the_nearest_name(
    key: str, meant: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(ROOT)
    setting: Any = 12
    for part in reversed(key.split(".")):
        setting = {part: setting}
    (tmp_path / "mine.yaml").write_text(json.dumps(setting))
    for args in ([f"--{key}", "12"], ["--config", str(tmp_path / "mine.yaml")]):
        assert main([*FIT, *args]) == 1
        output = capsys.readouterr().err
        assert output.startswith("dynfocus: ")
        assert output.count("\n") == output.count("Needed: ") == 1
        assert key.split(".")[-1] in output
        dashes = "--" if args[0] != "--config" and "." in str(meant) else ""
        assert (f"Did you mean {dashes}{meant}?" in output) if meant else ("Did you mean" not in output)


def test_flags_stand_alone() -> None:
    assert read_options("export", ["a", "b", "--merge"])["merge"] is True
    assert read_options("export", ["a", "b"])["merge"] is False
    asked = read_options("ask", ["v.mp4", "q", "--json", "--compare"])
    assert asked["json"] is asked["compare"] is True
    for flag, value in {"--checkpointing": True, "--no-checkpointing": False}.items():
        assert read_options("plan", ["--frames", "3", flag])["checkpointing"] is value
    assert read_options("plan", ["--frames", "3"])["checkpointing"] is None
    again = read_options("doctor", ["--again", "--config", "a", "--workers=3", "--model.lr", "1", "--limit", "0.5"])
    assert again == {"settings": ["--config", "a", "--model.lr", "1"], "workers": 3, "limit": 0.5, "again": True} | {
        "file": None, "media": None,
    }  # fmt: skip
    with pytest.raises(UsageError, match="expected one argument"):
        read_options("doctor", ["--config", "a", "--workers"])


@settings(deadline=None, max_examples=10)
@given(text=st.text(st.characters(exclude_characters="\0"), min_size=1).filter(lambda text: text[0] != "-"))
@example("null")
@example("[1, 2]")
@example("a: b")
@example("1e3")
@example("\udcff.mp4")
def test_words_are_taken_as_they_are(text: str) -> None:
    """Whatever YAML would make of them."""
    asked = read_options("ask", [text, text, text, "--model", text, "--cache", text])
    assert asked["questions"] == [text, text]
    assert asked["video"] == asked["model"] == asked["cache"] == Path(text)
    assert read_options("figure 1a", ["--set", text, "--file", text])["set"] == text
    assert read_options("plan", ["--config", text, "--config", text])["config"] == [Path(text)] * 2


def test_swap_is_the_old_name_of_compare(tmp_path: Path, capsys: Capture) -> None:
    assert main(["ask", str(tmp_path), "star", "--swap"]) == 1
    output = capsys.readouterr().err.splitlines()
    assert "--compare" in output[0]
    assert "which is a folder" in output[1]
    assert "--swap" not in help_of("ask", capsys)


def run_here(folder: Path, code: str) -> None:
    """Run Python code in a folder that is not on its path; fails where the code does."""
    start = "import sys\nsys.path = [place for place in sys.path if place not in ('', sys.argv[1])]\n"
    command = [sys.executable, "-c", start + code, str(folder)]
    environment = os.environ | {"PYTHONPATH": ""}
    done = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_code_of_ones_own_is_found_and_hides_none(tmp_path: Path) -> None:
    """It is looked for behind all other places, once it is named; its difflib.py is not taken for Python's."""
    (tmp_path / "my_selector.py").write_text("FOUND = 1\n")
    (tmp_path / "difflib.py").write_text("raise ImportError('the wrong one')\n")
    (tmp_path / "own.yaml").write_text("model: {connector: {selector: my_selector.Mine}}\n")
    run_here(
        tmp_path,
        """
from dynfocus.cli import main
assert main(["plna", "--config", "own.yaml"]) == 2
assert main(["plna", "--model.connector.selector=my_selector.Mine"]) == 2
assert sys.path.count(sys.argv[1]) == 1
import my_selector
""",
    )


def test_nothing_is_imported_from_a_folder_whose_code_is_not_named(tmp_path: Path) -> None:
    """By whichever way the command begins, and in the processes that it starts."""
    for name in ("json", "torch", "difflib", "heapq", "flash_attn"):
        (tmp_path / f"{name}.py").write_text(f"open('{name} has run', 'w')\n")
    run_here(
        tmp_path,
        """
from dynfocus.cli import main
assert main(["table", "my_run.1"]) == 1
assert sys.argv[1] not in sys.path
""",
    )
    dynfocus = Path(sys.executable).with_name("dynfocus")
    for command in ([sys.executable, "-m", "dynfocus"], [str(dynfocus)]):
        subprocess.run([*command, "--version"], cwd=tmp_path, capture_output=True, check=True)
    assert [file.name for file in tmp_path.glob("* has run")] == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="another user is needed")
def test_what_a_user_may_not_read_is_one_sentence(tmp_path: Path, capsys: Capture) -> None:
    command = ["table", str(tmp_path)]
    assert main(command) == 1  # which imports all that another user could not
    (tmp_path / "metrics.json").write_text("{}")
    (tmp_path / "metrics.json").chmod(0o600)
    capsys.readouterr()
    os.seteuid(65534)
    try:
        assert main(command) == 1
    finally:
        os.seteuid(0)
    shown = capsys.readouterr().err
    assert shown.startswith(f"dynfocus: {tmp_path / 'metrics.json'}, which this user may not read")
    assert shown.count("\n") == 1
