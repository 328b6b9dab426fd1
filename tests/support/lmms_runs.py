"""Runs of lmms-eval's own runner in a process of its own, without a network; `make lmms` installs it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / "cache" / "lmms-eval"
RUNNER = Path(__file__).with_name("torchvision_beside_torch.py")  # which a host needs, and a trained model does not


def run_process(words: list[str], home: Path) -> str:
    """What a process prints that sees lmms-eval, and keeps what it downloads in ``home``; it must end well."""
    assert (PACKAGES / "lmms_eval").is_dir(), "lmms-eval is not installed: `make lmms` puts it into cache/lmms-eval"
    places = {
        "PYTHONPATH": f"{PACKAGES}:{ROOT}:{RUNNER.parent}",
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(
        [sys.executable, *words], cwd=home, env=os.environ | places, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def run_lmms(home: Path, model: str, arguments: str, tasks: str, *options: str, runner: Any = ("-m",)) -> Path:
    """Let the runner ask a model the tasks that lie in ``home``; returns the folder of its results."""
    out = home / "out" / str(len(list(home.glob("out/*"))))
    words = ["lmms_eval", "--model", model, "--model_args", arguments, "--tasks", tasks, "--include_path", str(home)]
    words += ["--batch_size", "1", "--log_samples", "--output_path", str(out), *options]
    run_process([*runner, *words], home)
    return out


def read_log(out: Path, task: str) -> list[dict[str, Any]]:
    """The samples of a task in the order of its rows, each with its ``answer``."""
    lines = next(out.rglob(f"*samples_{task}.jsonl")).read_text().splitlines()
    samples = sorted(map(json.loads, lines), key=lambda sample: sample["doc_id"])
    answers = [sample["filtered_resps"] for sample in samples]
    texts = [answer if isinstance(answer, str) else answer[0] for answer in answers]
    return [sample | {"answer": text} for sample, text in zip(samples, texts, strict=True)]


def read_score(out: Path, task: str, metric: str) -> float:
    """The score of a task."""
    return json.loads(next(out.rglob("*results.json")).read_text())["results"][task][f"{metric},none"]
