"""Imports go one way, and each heavy dependency has one owner."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "atft"

MAY_IMPORT = {
    "errors": set(),
    "blocks": set(),
    "settings": set(),
    "schemes": {"settings"},
    "config": {"settings", "schemes"},
    "observe": {"errors"},
    "storage": {"errors"},
    "model": {"blocks"},
    "objective": {"blocks"},
    "data": {"config", "blocks", "errors"},
    "evaluate": {"data", "model", "objective", "config", "blocks", "errors"},
    "train": {"evaluate", "data", "model", "objective", "config", "blocks", "errors", "observe"},
    "experiment": {
        *("train", "evaluate", "data", "model", "objective", "config", "schemes", "blocks", "errors", "observe")
    },
    "report": {"train", "evaluate", "data", "model", "objective", "config", "blocks", "errors", "observe"},
    "commands": {"launch", "experiment", "errors"},
    "cli": {"commands", "errors"},
}
MAY_IMPORT["launch"] = MAY_IMPORT["report"] | {"experiment", "report", "schemes", "storage"}

OWNERS = {
    "polars": {"data"},
    "prometheus_client": {"observe"},
    "ray": {"launch"},
    "kubernetes": {"launch"},
    "matplotlib": {"report"},
    "jinja2": {"report"},
    "sklearn": {"evaluate"},
    "mlflow": {"experiment"},
    "tensorboard": {"experiment"},
    "torch_geometric": {"model"},
    "click": {"cli", "commands"},
    "rich": {"observe", "commands"},
}

BARE = ("model", "objective", "train/step.py", "train/collectives.py", "train/partition.py")
"""What has to run on a bare GPU image."""
BARE_ALLOWED = {"torch", "torch_geometric", "numpy", "atft"} | set(sys.stdlib_module_names)


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found += [f"{node.module}.{name.name}" for name in node.names]
    return found


def part_of(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


SOURCES = sorted(path for path in ROOT.rglob("*.py") if path.name not in {"__init__.py", "__main__.py"})


def test_there_is_something_to_check() -> None:
    assert len(SOURCES) > 30
    assert {part_of(path) for path in SOURCES} <= MAY_IMPORT.keys()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    own = part_of(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "atft" and len(parts) > 1 and parts[1] not in {own, "__version__"}:
            assert parts[1] in MAY_IMPORT[own], f"{own} imports {name}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_dependencies_have_one_owner(path: Path) -> None:
    for name in imports(path):
        owners = OWNERS.get(name.split(".")[0])
        assert owners is None or part_of(path) in owners, f"{path} imports {name}, which only {owners} may"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_runs_on_a_bare_gpu_image_imports_torch_only(path: Path) -> None:
    if str(path.relative_to(ROOT)).startswith(BARE):
        for name in imports(path):
            parts = name.split(".")
            assert parts[0] in BARE_ALLOWED, f"{path} imports {name}"
            if parts[0] == "atft":
                bare = parts[1] in {"blocks", "errors"} or "/".join(parts[1:3]).startswith(
                    tuple(each.removesuffix(".py") for each in BARE)
                )
                assert bare, f"{path} imports {name}"


def test_the_command_line_loads_no_heavy_module() -> None:
    code = (
        "import sys, atft.cli; print(*(set(sys.modules) & {'torch', 'polars', 'numpy', 'pydantic', 'rich', 'scipy'}))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []
