"""The first minute: a new run folder, the version, and consoles of any encoding."""

import os
import subprocess
import sys

import pytest
import yaml
from commands import HANG, devsort, last_line
from folders import names

from devsort import __version__
from devsort.sorting.run import open_run


def in_a_process(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """`python -m devsort ARGUMENTS`, its output as bytes."""
    return subprocess.run(
        [sys.executable, "-m", "devsort", *arguments],
        capture_output=True,
        timeout=HANG,
        env=os.environ | environment,
    )


def test_init_makes_a_run_that_commands_take(tmp_path):
    folder = tmp_path / "mine"
    result = devsort("init", folder, "--set", "train.steps=7")
    assert (result.code, result.err) == (0, "")
    assert result.out == f"{folder}/config.yaml: change what you like, then train\n"
    assert names(folder) == ["config.yaml"] and open_run(folder).config.train.steps == 7
    assert devsort("config", folder).code == 0


def test_init_takes_the_settings_of_a_run_and_none_of_its_results(smoke, tmp_path):
    folder = tmp_path / "mine"
    assert devsort("init", folder, "--like", smoke.path, "--set", "train.lr=0.5").code == 0
    assert names(folder) == ["config.yaml"]
    config = open_run(smoke.path, ("train.lr=0.5",)).config
    assert open_run(folder).config == config


def test_init_writes_nothing_over(tiny_run):
    result = devsort("init", tiny_run.path)
    told = f"devsort: error: {tiny_run.path} already exists; choose a new name"
    assert (result.code, last_line(result.err)) == (2, told)
    assert names(tiny_run.path) == ["config.yaml"]


def test_a_refused_setting_makes_no_folder(tmp_path):
    assert devsort("init", tmp_path / "mine", "--set", "train.steps=0").code == 2
    assert not (tmp_path / "mine").exists()


def test_the_version_is_printed():
    result = devsort("--version")
    assert result == (0, f"devsort {__version__}\n", "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_console_of_another_encoding_is_no_error(encoding):
    """The page of settings holds Greek letters, which few encodings have."""
    found = in_a_process("config", PYTHONIOENCODING=encoding)
    assert (found.returncode, found.stderr) == (0, b"")
    text = found.stdout.decode(encoding)
    shown = "λ".encode(encoding, errors="backslashreplace").decode(encoding)
    assert f"{shown}_wd" in text
    assert yaml.safe_load(text)["train"]["steps"] == 6000


def test_an_error_in_a_console_of_another_encoding_is_one_line():
    found = in_a_process("status", "überall", PYTHONIOENCODING="ascii")
    assert found.returncode == 2
    assert found.stderr.startswith(b"devsort: error: \\xfcberall is not a folder; ")
