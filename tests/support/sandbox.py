"""A copy of the files that make reads, whose Python is a script that notes what it is asked."""

import os
import re
import shutil
import subprocess
import sys
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
esac
echo "$*" >> calls.txt
run=stage2
case "$*" in
  *qlora.yaml*) run=qlora ;;
  *lora.yaml*) run=lora ;;
  *posttune.yaml*) run=posttune ;;
esac
case "$*" in
  *refuse*) exit 2 ;;
  *pip\\ install*) [ -z "${{OFFLINE-}}" ] || exit 1 ;;
  -m\\ venv*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  *dynfocus\\ world*) mkdir -p cache/world/data ;;
  *dynfocus\\ towers*) mkdir -p cache/world/towers && date +%N > cache/world/towers/model.safetensors ;;
  *fit*stage1.yaml*) mkdir -p runs/world/stage1; echo "${{SLEEP-}}" > runs/world/stage1/projectors.safetensors
    trap 'exit 0' INT; [ -z "${{SLEEP-}}" ] || {{ touch asleep; sleep "$SLEEP"; }} ;;
  *dynfocus\\ fit*) mkdir -p runs/world/$run/model && date +%N > runs/world/$run/model/model.safetensors ;;
  *dynfocus\\ test*) [ -z "${{FAIL-}}" ] || exit 1; echo '{{}}' > runs/world/$run/metrics.json ;;
  *table*) echo THE TABLE ;;
esac
"""


VARIABLES = ("ARGS", "CONFIG", "DEVICES", "NODES", "LAUNCH", "GPU")


class Clone:
    """A copy of the files that make reads, and what its Python was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("Makefile", "setup.cfg", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        (folder / "lightning_configs").mkdir()
        for name in ("stage1", "stage2", "posttune", "lora", "qlora", "world"):
            (folder / f"lightning_configs/{name}.yaml").write_text(f"{name}: 1\n")
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
        """The exit code, what was printed, and the Python calls of one make."""
        (self.folder / "calls.txt").unlink(missing_ok=True)
        process = self.start(*args, **env)
        out, _ = process.communicate(timeout=60)
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


EVERYTHING = ["world", "towers", "fit1", "fit2", "test", "table"]
