"""The wheel holds all that the package needs, and works where there is nothing else of it."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from runs import TINY

ROOT = Path(__file__).parents[1]
BUILD = "import sys; from setuptools import build_meta as b; b.build_wheel(sys.argv[1])"
SETTINGS = [
    f"{section}.{key}={value}"
    for section in ("task", "model", "train")
    for key, value in TINY[section].items()
    if not isinstance(value, dict)
]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder that holds what the wheel holds, far from the sources."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    shutil.copytree(ROOT / "devsort", source / "devsort")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    built = [sys.executable, "-c", BUILD, str(source)]
    subprocess.run(built, cwd=source, check=True, capture_output=True)
    (wheel,) = source.glob("devsort-*.whl")
    zipfile.ZipFile(wheel).extractall(out)
    return out


def test_it_holds_every_file_of_the_package(installed):
    def files(folder: Path) -> set[str]:
        found = (p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
        return {str(p.relative_to(folder)) for p in found}

    # for `make lint-page`, which needs the sources; and what is compiled
    sources = {"explorer/eslint.config.mjs", "sorting/kernels/compiled.c"}
    assert files(installed / "devsort") == files(ROOT / "devsort") - sources
    assert "py.typed" in files(installed / "devsort")


@pytest.mark.skipif(not shutil.which("gcc"), reason="no C compiler")
def test_its_kernels_are_compiled(installed):
    code = "from devsort.sorting.kernels import compiled; print(compiled.load()._name)"
    told = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=installed,
        env={"PYTHONPATH": str(installed)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert Path(told.stdout.strip()).is_relative_to(installed)


@pytest.mark.slow
def test_a_run_is_made_and_trained_by_it(installed, tmp_path):
    overrides = [word for setting in SETTINGS for word in ("--set", setting)]
    for command in (["init", "mine", *overrides], ["train", "mine"]):
        code = "import sys, devsort.cli; devsort.cli.main(sys.argv[1:])"
        subprocess.run(
            [sys.executable, "-P", "-c", code, *command],
            cwd=tmp_path,
            env={"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"},
            check=True,
            capture_output=True,
        )
    saved = {p.name for p in (tmp_path / "mine").iterdir()}
    assert {"config.yaml", "checkpoints", "training.jsonl"} <= saved
