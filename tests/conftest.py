"""Fixtures that all tests share: a tiny config, a run folder that holds it, and one thread for torch."""

from pathlib import Path

import pytest
import torch
import yaml

from devsort.artifacts import Run, open_run
from devsort.config import Config, parse_config

TINY = {
    "task": {"list_length": 3, "numbers": 7, "eval_lists": 64},
    "model": {"heads": 2, "d_model": 8, "d_head": 4},
    "train": {
        "steps": 20,
        "batch_size": 16,
        "log_every": 10,
        "checkpoints": {"per_decade": 4, "linear_from": 10, "linear_every": 5},
    },
    "llc": {
        "sampler": {"n_beta": 50.0, "num_chains": 2, "num_draws": 6, "num_burnin_steps": 4, "batch_size": 8},
        "dataset_size": 64,
        "max_checkpoints": 3,
    },
    "heads": {"lists": 64},
    "stages": {"bootstrap": 20},
    "device": "cpu",
}


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


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
