"""Fixtures that all tests share.

A tiny config, a run folder with it, a finished run, and one thread for torch.
"""

import gc
import json
import os
from pathlib import Path

import pytest
import torch
import yaml
from filelock import FileLock

from devsort.sorting.config import Config, parse_config
from devsort.sorting.run import Run, open_run
from runs import TINY, Smoke, smoke_run


@pytest.fixture(scope="session", autouse=True)
def _imports_are_no_garbage():
    """devinterp collects garbage twice a chain, which takes long with all modules imported."""
    gc.freeze()


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Smoke:
    """The finished run of the session, figures included; the workers of pytest-xdist share it."""
    shared = "PYTEST_XDIST_WORKER" in os.environ
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if shared else own) / "session"
    values = folder / "values.json"
    with FileLock(folder.with_suffix(".lock")):
        if not values.exists():
            folder.mkdir()
            values.write_text(json.dumps(smoke_run(folder).values))
    return Smoke(folder / "smoke", json.loads(values.read_text()))


@pytest.fixture(autouse=True)
def _plain_torch():
    """One thread, and denormal floats as hypothesis expects them, whatever was set before."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def tiny_config() -> Config:
    """A config whose every step takes well under a second."""
    return parse_config(TINY, "TINY")


@pytest.fixture
def tiny_run(tmp_path: Path) -> Run:
    """A run folder in tmp_path that holds only the tiny config.yaml."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(TINY))
    return open_run(folder)
