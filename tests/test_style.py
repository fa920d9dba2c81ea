"""The shape of the package: what no linter measures, and that the linter sees a wrong import."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_FILE, P90_BODY, MAX_BODY = 300, 20, 45
Function = ast.FunctionDef | ast.AsyncFunctionDef
SOURCES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in sorted((ROOT / "devsort").rglob("*.py"))
}


def body_lines(function: Function) -> int:
    """Lines of a body, from its first statement after the docstring to its last."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def bodies() -> dict[str, int]:
    return {
        f"{name}:{node.lineno} {node.name}": body_lines(node)
        for name, text in SOURCES.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, Function)
    }


def test_files_are_short():
    lengths = {name: len(text.splitlines()) for name, text in SOURCES.items()}
    assert {name: n for name, n in lengths.items() if n > MAX_FILE} == {}


def test_functions_are_small():
    lengths = bodies()
    assert {name: n for name, n in lengths.items() if n > MAX_BODY} == {}
    assert sorted(lengths.values())[int(0.9 * len(lengths))] <= P90_BODY


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package and its contracts, to be spoilt."""
    shutil.copytree(ROOT / "devsort", tmp_path / "devsort")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(folder: Path) -> subprocess.CompletedProcess:
    linter = Path(sys.executable).with_name("lint-imports")
    return subprocess.run([linter, "--no-cache"], cwd=folder, capture_output=True, text=True)


def test_the_package_keeps_its_contract(copy):
    assert lint(copy).returncode == 0


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("llc/estimate.py", "devsort.sorting.task"),
        ("stages/detector.py", "devsort.charts.style"),
        ("sorting/llc.py", "devsort.sweep.row"),
    ],
)
def test_an_import_from_instrument_to_laboratory_fails(copy, importer, imported):
    path = copy / "devsort" / importer
    path.write_text(f"{path.read_text()}\n\ndef planted():\n    import {imported}\n")
    result = lint(copy)
    assert result.returncode == 1
    importing = f"devsort.{importer.removesuffix('.py').replace('/', '.')}"
    assert f"{importing} -> {imported}" in result.stdout


def test_what_samples_loads_neither_charts_nor_laboratory():
    code = (
        "import sys, devsort.llc, devsort.sampling\n"
        "print([m for m in sys.modules if m.startswith('devsort.')\n"
        "       and m.split('.')[1] in ('charts', 'sorting', 'stages', 'cli')])\n"
        "print([m for m in ('matplotlib', 'scipy.stats', 'xarray', 'zarr', 'pandas')\n"
        "       if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.split("\n")[:2] == ["[]", "[]"]
