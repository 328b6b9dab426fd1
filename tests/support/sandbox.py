"""Copy the files that make reads, beside a Python that decides as the real one but only notes what takes minutes."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Stands for Python: it records each call and leaves the files that the real commands leave.
PYTHON = f"""#!/usr/bin/env bash
case "$*" in
  -c*version_info*) [ -z "${{OLD-}}" ] || exec {sys.executable} -c \
    'import sys; sys.version_info = (3, 9); exec(sys.argv[1])' "$2" ;;&
  -c*metadata*) echo torch==9.9; exit 0 ;;
  -c*cuda*) [ -n "${{GPU-}}" ] && exit 0 || exit 1 ;;
  -c*) exec {sys.executable} "$@" ;;
  -m\\ dynfocus\\ fit*|-m\\ dynfocus\\ test*) exec {sys.executable} -S stand_in.py "${{@:3}}" ;;
esac
echo "$*" >> calls.txt
case "$*" in
  *pip\\ install*) [ -z "${{OFFLINE-}}" ] || exit 1 ;;
  -m\\ venv*) mkdir -p "${{!#}}/bin" && cp "$0" "${{!#}}/bin/python" ;;
  *dynfocus\\ world*) mkdir -p "$4" && touch "$4/world.json" ;;
  *dynfocus\\ towers*) mkdir -p "$5" && date +%N > "$5/towers.json" ;;
esac
"""
# The real command line; only the work that takes minutes is another: it is noted, and leaves files by their names.
STAND_IN = f"""
import os, shutil, sys, time, types
from pathlib import Path

sys.path[:0] = [{str(ROOT)!r}, {sysconfig.get_paths()["purelib"]!r}]
from dynfocus import cli
from dynfocus.train import finished
from dynfocus.records.jsonl import write_jsonl
from dynfocus.records.predictions import Prediction

COLUMNS = '{{"type/THE TABLE": {{"value": 1}}}}'
METRICS = '{{"benchmark": "world", "arms": {{}}, "n": 1, "seed": 0, "seconds": 1, "columns": ' + COLUMNS + '}}'

def run(command, again=False):
    verb, *args = command
    with open("calls.txt", "a") as calls:
        print("-m dynfocus", *command, file=calls)
    if "--refuse" in args or (verb == "test" and os.environ.get("FAIL")):
        sys.exit(2)
    folder = finished.find_run_folder(args)
    stage, before = folder.name, folder.parent
    built_on = {{"stage1": Path("cache/world/towers"), "posttune": before / "stage2/model"}}
    files = [folder / "model" if verb == "test" else built_on.get(stage, before / "stage1/projectors.safetensors")]
    configs = [word for word in args if word.endswith(".yaml")]
    digests = finished.digest_files(configs), finished.digest_files(files)
    record = finished.Record(tuple(args), "", finished.read_environment(configs), *digests)
    if verb == "test":
        (folder / "metrics.json").write_text(METRICS)
        write_jsonl(folder / "predictions.jsonl", [PREDICTION])
    else:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if os.environ.get("SLEEP"):
            Path("asleep").touch()
            time.sleep(float(os.environ["SLEEP"]))
        left = folder / ("projectors.safetensors" if stage == "stage1" else "model")
        left.write_text("the same" if stage == "stage1" else str(time.time_ns()))
    finished.write_record(folder, verb, record)
    return types.SimpleNamespace(trainer=types.SimpleNamespace(default_root_dir=folder))

PREDICTION = Prediction(
    "r", "v 1.mp4", "learned", "what color is the star", "red", "red", "color", (1,), 1.0, 85
)
sys.modules["dynfocus.train.fit"] = types.SimpleNamespace(run=run)
sys.exit(cli.main(sys.argv[1:]))
"""


VARIABLES = ("ARGS", "WORLD", "CONFIG", "SEED", "DEVICES", "NODES", "LAUNCH", "RUN", "GPU")


class Clone:
    """A copy of the files that make reads, and what its Python was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("Makefile", "setup.cfg", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        (folder / "lightning_configs").mkdir()
        for name in ("stage1", "stage2", "posttune", "lora", "qlora", "world"):
            (folder / f"lightning_configs/{name}.yaml").write_text(f"{name}: 1\n")
        (folder / "lightning_configs/worlds").mkdir()
        for path in (ROOT / "lightning_configs/worlds").iterdir():
            shutil.copy(path, folder / "lightning_configs/worlds")
        (folder / "stand_in.py").write_text(STAND_IN)
        (folder / "python").write_text(PYTHON)
        (folder / "python").chmod(0o755)

    def start(self, *args: str, **env: str) -> subprocess.Popen[str]:
        clean = {k: v for k, v in os.environ.items() if k not in VARIABLES}
        return subprocess.Popen(
            ["make", "PYTHON=./python", *args],
            cwd=self.folder,
            env={**clean, **env},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def make(self, *args: str, **env: str) -> tuple[int, str, list[str]]:
        """The exit code, what was printed, and the Python calls of one make, but for those that find all finished."""
        (self.folder / "calls.txt").unlink(missing_ok=True)
        process = self.start(*args, **env)
        out, _ = process.communicate(timeout=600)
        return process.returncode, out, self.calls()

    def calls(self) -> list[str]:
        path = self.folder / "calls.txt"
        return path.read_text().splitlines() if path.exists() else []

    def steps(self, *args: str, **env: str) -> list[str]:
        """The sub-commands of `dynfocus` that one successful make calls, a stage's fit with its number or name."""
        code, out, calls = self.make(*args, **env)
        assert code == 0, out
        return [label(call) for call in calls if "dynfocus" in call]


def label(call: str) -> str:
    """The sub-command of `dynfocus`, a fit with its stage."""
    verb, configs = call.split()[2], re.findall(r"lightning_configs/(\w+)\.yaml", call)
    stage = next((name for name in configs if name in ("posttune", "lora", "qlora")), "".join(configs[:1]))
    return verb + (stage.removeprefix("stage") if verb == "fit" else "")


EVERYTHING = ["world", "towers", "fit1", "fit2", "test"]
