"""Hold the house rules that a machine can hold: who may import whom, who knows torch and Lightning, sizes and names."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IMPORTS = ROOT / "docs" / "imports.txt"
BESIDE = ("datamodules", "callbacks", "perf")  # packages beside dynfocus; each of them is one room
BASE_LINES = 2  # "base" is the rooms of so many first lines
LOADS_TORCH = {"torch", "lightning", "transformers", "torchmetrics", "peft", "bitsandbytes"}
NAMES_THAT_SAY_NOTHING = {"utils", "helpers", "common", "constants", "misc"}


@dataclass(frozen=True)
class Rule:
    """What one room may import: rooms anywhere, rooms inside functions, and libraries it must not touch."""

    may: frozenset[str]
    inside_functions: frozenset[str]
    never: frozenset[str]


def read_rules(text: str) -> dict[str, Rule]:
    """The rule of every room; raises ValueError where a line names a room that does not stand above it."""
    rules: dict[str, Rule] = {}
    base: set[str] = set()
    for number, line in enumerate(line for line in text.splitlines() if not line.startswith("#")):
        rooms, may, never = (column.strip() for column in line.split("|"))
        anywhere, late = set(re.sub(r"\(.*?\)", "", may).split()), set(" ".join(re.findall(r"\((.*?)\)", may)).split())
        for room in rooms.split():
            above = set(rules)
            named = {"base": base, "all": above - set(BESIDE)}
            sets = [set().union(*(named.get(name, {name}) for name in names)) for names in (anywhere, late)]
            if unknown := (sets[0] | sets[1]) - above - LOADS_TORCH:
                raise ValueError(f"{room} may import {', '.join(sorted(unknown))}, which stands on no line above it")
            before = set(rooms.split()[: rooms.split().index(room)])
            rules[room] = Rule(frozenset(sets[0] | before | {room}), frozenset(sets[1]), frozenset(never.split()))
        base |= set(rooms.split()) if number < BASE_LINES else set()
    return rules


def is_without_torch(rule: Rule) -> bool:
    """Whether importing the room must not load torch."""
    return "torch" in rule.never | rule.inside_functions


def source_files(root: Path) -> list[Path]:
    return sorted(path for package in ("dynfocus", *BESIDE) for path in (root / package).rglob("*.py"))


def room_of(name: str) -> str:
    """The room of a dotted name; "" is dynfocus itself, which holds nothing but rooms."""
    first, _, rest = name.partition(".")
    room = first if first in BESIDE else rest.split(".")[0]
    return "cli" if room == "__main__" else room


def module_name(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def imported_names(path: Path, root: Path) -> Iterator[tuple[str, bool]]:
    """Each dotted name that a file imports, and whether it does so inside a function.

    `from a import b` gives a.b: of the rooms it says where b lies, of libraries the first part is all that counts.
    """
    package = module_name(path, root).split(".")
    package = package if path.name == "__init__.py" else package[:-1]
    waiting: list[tuple[ast.AST, bool]] = [(parse(path), False)]
    while waiting:
        node, inside = waiting.pop()
        if isinstance(node, ast.Import):
            yield from ((alias.name, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *(node.module or "").split(".")]).strip(".")
            yield from ((f"{source}.{alias.name}", inside) for alias in node.names)
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        waiting += [(child, inside) for child in ast.iter_child_nodes(node)]


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def against_the_rules(path: Path, root: Path, rules: dict[str, Rule]) -> set[str]:
    """What a file imports that its room's line does not allow."""
    room = room_of(module_name(path, root))
    rule = rules.get(room, Rule(frozenset(), frozenset(), frozenset()))
    wrong = set()
    for name, inside in imported_names(path, root):
        first = name.split(".")[0]
        if first == "dynfocus" or first in BESIDE:
            allowed = rule.may | rule.inside_functions if inside else rule.may
            if name != "dynfocus" and room_of(name) not in allowed:
                wrong.add(f"{room or 'dynfocus'} -> {name}")
            continue
        library = "lightning" if "lightning" in first else first
        kept_out = rule.never if inside else rule.never | (rule.inside_functions & LOADS_TORCH)
        if library in kept_out or ("torch" in kept_out and library in LOADS_TORCH):
            wrong.add(f"{room} -> {name}")
    return wrong


RULES = read_rules(IMPORTS.read_text())
FILES = source_files(ROOT)


def name_of(path: Path) -> str:
    return module_name(path, ROOT)


@pytest.mark.parametrize("room", [*RULES, ""])
def test_imports_follow_the_lines(room: str) -> None:
    files = [path for path in FILES if room_of(name_of(path)) == room]
    assert files
    assert set().union(*(against_the_rules(path, ROOT, RULES) for path in files)) == set()


def test_every_line_has_its_rooms_and_every_room_its_line() -> None:
    rooms = {room_of(name_of(path)) for path in FILES} - {""}
    assert rooms == set(RULES)


def test_dynfocus_holds_few_single_files() -> None:
    assert len([path for path in (ROOT / "dynfocus").glob("*.py") if not path.stem.startswith("__")]) <= 7


def test_rooms_without_torch_load_none() -> None:
    names = [name_of(path) for path in FILES if (rule := RULES.get(room_of(name_of(path)))) and is_without_torch(rule)]
    names = [name for name in names if not name.endswith("__main__")]
    assert len(names) > 10
    code = (
        f"import importlib, sys\nfor name in {names}: importlib.import_module(name)\nsys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_files_are_small_and_named_for_what_they_hold() -> None:
    files = [*FILES, *sorted((ROOT / "tests").rglob("*.py"))]
    assert {name_of(path): count for path in files if (count := len(path.read_text().splitlines())) > 450} == {}
    assert [name_of(path) for path in files if path.stem in NAMES_THAT_SAY_NOTHING] == []


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_pages_show_the_lines_as_they_are(page: str) -> None:
    assert f"```text\n{IMPORTS.read_text()}```" in (ROOT / page).read_text()


def test_the_tree_on_the_page_is_the_tree() -> None:
    tree = re.search(r"^dynfocus/\n((?:  .*\n)+)", (ROOT / "docs/architecture.md").read_text(), re.M)
    assert tree
    shown = set(re.findall(r"^  (\w+)(?:/|\.py) ", tree[1], re.M))
    assert shown == set(RULES) - set(BESIDE)


# The test of the test: a small house with one mistake at a time.

HOUSE = {
    "dynfocus/errors.py": "class Oops(Exception): ...",
    "dynfocus/types.py": "import torch\nfrom dynfocus.errors import Oops",
    "dynfocus/settings.py": "from dynfocus import errors",
    "dynfocus/method/dpe.py": "import torch\nfrom dynfocus.settings import L\nfrom . import cce",
    "dynfocus/plan/page.py": "from dynfocus import settings\ndef f():\n    import torch, dynfocus.method.dpe",
    "dynfocus/cli.py": "def fit():\n    from dynfocus.plan.page import f",
    "dynfocus/__main__.py": "from dynfocus.cli import fit",
    "datamodules/rows.py": "import lightning\nfrom dynfocus import settings",
}
LINES = """# rooms | may import | never
errors types | | lightning transformers
settings | errors | torch
method | base | lightning
plan | settings (all torch) | lightning
cli | (all) | lightning
datamodules | base |
"""
MISTAKES = [
    ("dynfocus/errors.py", "import dynfocus.types"),
    ("dynfocus/errors.py", "from dynfocus import settings"),
    ("dynfocus/settings.py", "import torch"),
    ("dynfocus/settings.py", "def late():\n    from transformers import AutoModel"),
    ("dynfocus/method/dpe.py", "from ..plan import page"),
    ("dynfocus/method/dpe.py", "from dynfocus.plan.page import flops"),
    ("dynfocus/method/dpe.py", "from lightning.pytorch import Trainer"),
    ("dynfocus/method/dpe.py", "def late():\n    import pytorch_lightning"),
    ("dynfocus/method/dpe.py", "if True:\n    import datamodules.examples"),
    ("dynfocus/plan/page.py", "import torch.nn"),
    ("dynfocus/plan/page.py", "from transformers import AutoConfig"),
    ("dynfocus/plan/page.py", "from dynfocus.method import dpe"),
    ("dynfocus/cli.py", "class Verbs:\n    from dynfocus.plan import page"),
    ("dynfocus/__init__.py", "from dynfocus.errors import Oops"),
    ("dynfocus/garden/shed.py", "import dynfocus.errors"),
    ("datamodules/rows.py", "from dynfocus.method import dpe"),
]


def build_house(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_house_in_order_passes(tmp_path: Path) -> None:
    root = build_house(tmp_path, HOUSE)
    rules = read_rules(LINES)
    assert [path for path in source_files(root) if against_the_rules(path, root, rules)] == []
    assert {room for room, rule in rules.items() if is_without_torch(rule)} == {"settings", "plan"}


@pytest.mark.parametrize(("name", "mistake"), MISTAKES)
def test_each_mistake_is_found(tmp_path: Path, name: str, mistake: str) -> None:
    root = build_house(tmp_path, HOUSE | {name: f"{HOUSE.get(name, '')}\n{mistake}"})
    wrong = [path for path in source_files(root) if against_the_rules(path, root, read_rules(LINES))]
    assert wrong == [root / name]


@pytest.mark.parametrize("line", ["errors | plan |", "errors settings | (method) |", "errors | datamodules |"])
def test_a_line_that_points_upwards_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="no line above"):
        read_rules(f"{line}\nplan | |\nmethod | |\ndatamodules | |")
