"""The house rules that a machine can hold: which way imports point, who knows torch and Lightning, sizes and names."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("dynfocus", "datamodules", "callbacks")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# Each room by its dotted prefix (the longest that fits counts), and the prefixes of ours that it may import.
MAY = {
    "dynfocus.errors": (),
    "dynfocus.disk": ("dynfocus.errors",),
    "dynfocus.stages": (),
    "dynfocus.threads": (),
    "dynfocus.types": (),
    "dynfocus.records": ("dynfocus.disk", "dynfocus.errors"),
    "dynfocus.settings": ("dynfocus.errors",),
    "dynfocus.faults": ("dynfocus.errors", "dynfocus.records"),
    "dynfocus.doctor": (
        *("dynfocus.budget", "dynfocus.disk", "dynfocus.doctor", "dynfocus.errors", "dynfocus.faults"),
        *("dynfocus.processor", "dynfocus.readers", "dynfocus.records", "dynfocus.settings", "dynfocus.sketches"),
        *("dynfocus.threads", "dynfocus.video"),
    ),
    "dynfocus.selection": ("dynfocus.budget", "dynfocus.records", "dynfocus.settings", "dynfocus.types"),
    "dynfocus.methods": ("dynfocus.budget", "dynfocus.errors", "dynfocus.settings"),
    "dynfocus.report": (
        *("dynfocus.errors", "dynfocus.records", "dynfocus.budget", "dynfocus.settings", "dynfocus.methods"),
        *("dynfocus.disk", "dynfocus.report"),
    ),
    "dynfocus.figures": (
        *("dynfocus.answering", "dynfocus.disk", "dynfocus.errors", "dynfocus.figures", "dynfocus.methods"),
        *("dynfocus.readers", "dynfocus.records", "dynfocus.report", "dynfocus.settings", "dynfocus.video"),
    ),
    "dynfocus.health": ("dynfocus.nn.topk", "dynfocus.types"),
    "dynfocus.budget": ("dynfocus.errors", "dynfocus.settings"),
    "dynfocus.plan": (
        "dynfocus.budget",
        "dynfocus.errors",
        "dynfocus.methods",
        "dynfocus.plan",
        "dynfocus.settings",
        "dynfocus.stages",
    ),
    "dynfocus.chat": ("dynfocus.errors",),
    "dynfocus.prompts": ("dynfocus.errors", "dynfocus.records", "dynfocus.chat"),
    "dynfocus.overlong": ("dynfocus.errors", "dynfocus.records", "dynfocus.settings", "dynfocus.budget"),
    "dynfocus.audit": ("dynfocus.errors", "dynfocus.prompts", "dynfocus.processor"),
    "dynfocus.video": ("dynfocus.errors", "dynfocus.records", "dynfocus.settings", "dynfocus.video"),
    "dynfocus.processor": (
        *("dynfocus.errors", "dynfocus.records", "dynfocus.types", "dynfocus.settings", "dynfocus.budget"),
        *("dynfocus.prompts", "dynfocus.overlong", "dynfocus.faults", "dynfocus.video", "dynfocus.nn.backbones"),
    ),
    "dynfocus.export": ("dynfocus.disk", "dynfocus.errors", "dynfocus.nn", "dynfocus.pretrained"),
    "dynfocus.pretrained": (
        *("dynfocus.errors", "dynfocus.records", "dynfocus.settings", "dynfocus.prompts"),
        *("dynfocus.processor", "dynfocus.nn", "dynfocus.video"),
    ),
    "dynfocus.world": ("dynfocus.errors", "dynfocus.records", "dynfocus.world"),
    "dynfocus.readers": ("dynfocus.disk", "dynfocus.errors", "dynfocus.records", "dynfocus.readers"),
    "dynfocus.evals": ("dynfocus.errors", "dynfocus.records", "dynfocus.evals"),
    "dynfocus.metrics": ("dynfocus.records", "dynfocus.evals"),
    "dynfocus.nn.folders": ("dynfocus.disk", "dynfocus.errors", "dynfocus.settings", "dynfocus.nn"),
    "dynfocus.nn": ("dynfocus.errors", "dynfocus.types", "dynfocus.settings", "dynfocus.budget", "dynfocus.nn"),
    "dynfocus.sketches": (
        *("dynfocus.disk", "dynfocus.errors", "dynfocus.records", "dynfocus.types", "dynfocus.settings"),
        *("dynfocus.video", "dynfocus.nn.backbones", "dynfocus.nn.sketch", "dynfocus.sketches"),
    ),
    "dynfocus.bench": (
        *("dynfocus.bench", "dynfocus.budget", "dynfocus.disk", "dynfocus.errors", "dynfocus.nn", "dynfocus.settings"),
        *("dynfocus.threads", "dynfocus.towers", "dynfocus.types", "dynfocus.video", "dynfocus.world"),
        *(
            "dynfocus.building",
            "dynfocus.plan",
            "dynfocus.readers",
            "dynfocus.sharding",
        ),  # what a training step is built of
    ),
    "dynfocus.towers": (
        *("dynfocus.disk", "dynfocus.errors", "dynfocus.records", "dynfocus.prompts", "dynfocus.video"),
        *("dynfocus.world", "dynfocus.settings", "dynfocus.threads", "dynfocus.nn.backbones", "dynfocus.towers"),
    ),
    "dynfocus.building": ("dynfocus.errors", "dynfocus.settings", "dynfocus.stages", "dynfocus.nn"),
    "dynfocus.optimizers": ("dynfocus.nn.backbones",),
    "dynfocus.overview": ("dynfocus.nn.model",),
    "dynfocus.sharding": ("dynfocus.errors", "dynfocus.nn.adapters", "dynfocus.nn.model"),
    "dynfocus.checkpoints": ("dynfocus.errors",),
    "dynfocus.lit": (
        *("dynfocus.disk", "dynfocus.errors", "dynfocus.records", "dynfocus.types", "dynfocus.settings"),
        *("dynfocus.stages", "dynfocus.prompts", "dynfocus.nn", "dynfocus.metrics", "dynfocus.evals"),
        *("dynfocus.building", "dynfocus.checkpoints", "dynfocus.optimizers", "dynfocus.overview"),
        *("dynfocus.pretrained", "dynfocus.sharding"),
    ),
    "dynfocus.experiment": (
        *("dynfocus.disk", "dynfocus.errors", "dynfocus.faults", "dynfocus.records", "dynfocus.lit"),
        "dynfocus.nn.backbones",
    ),
    "dynfocus": ("dynfocus",),
    "datamodules": ("dynfocus", "datamodules"),
    "callbacks": (
        *("dynfocus.errors", "dynfocus.types", "dynfocus.records", "dynfocus.budget", "dynfocus.report"),
        *("dynfocus.evals", "dynfocus.faults", "dynfocus.selection", "dynfocus.health", "dynfocus.settings"),
        *("dynfocus.methods", "callbacks"),
    ),
}
MAY_NOT = {"datamodules": ("dynfocus.nn.model", "dynfocus.lit", "dynfocus.experiment", "dynfocus.cli")}
TORCH_FREE = (
    *("dynfocus.disk", "dynfocus.errors", "dynfocus.records", "dynfocus.settings", "dynfocus.budget", "dynfocus.plan"),
    *("dynfocus.stages", "dynfocus.prompts", "dynfocus.world", "dynfocus.readers", "dynfocus.evals", "dynfocus.cli"),
    *("dynfocus.arguments", "dynfocus.asking", "dynfocus.faults", "dynfocus.figures", "dynfocus.methods"),
    *("dynfocus.replies", "dynfocus.report", "dynfocus.doctor.checkup"),
    *("dynfocus.doctor.earlier", "dynfocus.doctor.findings"),
)
KNOW_LIGHTNING = (
    *("dynfocus.lit", "dynfocus.checkpoints", "dynfocus.sharding", "dynfocus.experiment", "datamodules", "callbacks"),
)
HEAVY = ("torch", "lightning", "torchmetrics", "transformers", "peft", "bitsandbytes")
NO_ROOMS = {"utils", "helpers", "common", "constants", "misc"}


def module(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def inside(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def room(name: str) -> str:
    return max((prefix for prefix in MAY if inside(name, (prefix,))), key=len)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path, nodes: Iterator[ast.AST]) -> set[str]:
    """The dotted names that ``nodes`` import; `from a import b` is a.b where that is a module of ours, else a."""
    ours = {module(file) for file in FILES}
    package = module(path) if path.name == "__init__.py" else module(path).rpartition(".")[0]
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *base.split(".")]).strip(".")
            full = {f"{base}.{alias.name}" for alias in node.names}
            found |= {name if name in ours else base for name in full}
    return found


def at_import(path: Path) -> Iterator[ast.AST]:
    """The nodes that run when the module is imported: everything outside functions."""
    waiting: list[ast.AST] = [tree(path)]
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def test_there_is_something_to_hold() -> None:
    assert {package for package in PACKAGES if list((ROOT / package).glob("*.py"))} == set(PACKAGES)


@pytest.mark.parametrize("path", FILES, ids=module)
def test_imports_point_one_way(path: Path) -> None:
    name = module(path)
    ours = {target for target in imports(path, ast.walk(tree(path))) if target.split(".")[0] in PACKAGES}
    against = {target for target in ours if not inside(target, MAY[room(name)])}
    against |= {target for target in ours if inside(target, MAY_NOT.get(name.split(".")[0], ()))}
    assert not against, f"{name} may import {MAY[room(name)]} only"


@pytest.mark.parametrize("path", [p for p in FILES if inside(module(p), TORCH_FREE)], ids=module)
def test_rooms_without_torch(path: Path) -> None:
    heavy = {target for target in imports(path, at_import(path)) if inside(target, HEAVY)}
    assert not heavy


@pytest.mark.parametrize("path", [p for p in FILES if not inside(module(p), KNOW_LIGHTNING)], ids=module)
def test_lightning_is_known_to_few(path: Path) -> None:
    assert not {t for t in imports(path, ast.walk(tree(path))) if inside(t, ("lightning", "pytorch_lightning"))}


def test_plan_answers_without_torch() -> None:
    light = [module(path) for path in FILES if inside(module(path), TORCH_FREE)]
    code = f"""
import importlib, sys
for name in {light}:
    importlib.import_module(name)
from dynfocus.cli import main
assert not main(["plan", "--frames", "16", "--events", "25", "--keep", "0.8", "--json"])
assert not main(["plan", "--frames", "16", "--train", "qlora", "--rows", "2"])
assert not main(["plan", "--config", "lightning_configs/stage2.yaml", "--frames", "16"])
sys.exit(f"imported: {{loaded}}" if (loaded := sorted({set(HEAVY)} & set(sys.modules))) else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "526" in done.stdout


@pytest.mark.parametrize("path", [p for p in FILES if module(p) != "dynfocus.cli"], ids=module)
def test_only_the_command_line_prints(path: Path) -> None:
    calls = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
    assert not [c.lineno for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]


@pytest.mark.parametrize("path", [*FILES, *sorted((ROOT / "tests").rglob("*.py"))], ids=module)
def test_files_are_small_and_named_for_what_they_hold(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300
    assert path.stem not in NO_ROOMS
