"""Runs that tests and the soak share.

A config whose every step takes well under a second, and a finished run.
"""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import yaml
from commands import devsort

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
        "sampler": {
            "n_beta": 50.0,
            "num_chains": 2,
            "num_draws": 6,
            "num_burnin_steps": 4,
            "batch_size": 8,
        },
        "dataset_size": 64,
        "first_step": 10,
        "max_checkpoints": 3,
    },
    "heads": {"lists": 64},
    "stages": {"bootstrap": 20},
    "device": "cpu",
}

SMOKE = Path(__file__).parents[1] / "runs" / "smoke" / "config.yaml"
SMOKE_LLC = {
    "dataset_size": 512,
    "first_step": 10,
    "max_checkpoints": 6,
    "sampler": {
        "num_chains": 3,
        "num_draws": 16,
        "num_burnin_steps": 8,
        "n_beta": 300,
        "lr": 1e-2,
        "batch_size": 16,
    },
}


class Smoke(NamedTuple):
    """A finished run; nobody changes it.

    Attributes:
        path: Its folder.
        values: The JSON object of each command.
    """

    path: Path
    values: dict[str, dict]

    def copy(self, folder: Path, *kept: str) -> Path:
        """A copy in `folder` with config.yaml and what else is named, such as checkpoints.

        With everything, if not.
        """
        target = folder / "smoke"
        for source in (
            [self.path / name for name in ("config.yaml", *kept)] if kept else [self.path]
        ):
            if source.is_dir():
                shutil.copytree(source, target / source.relative_to(self.path), dirs_exist_ok=True)
            else:
                target.mkdir(exist_ok=True)
                shutil.copy(source, target)
        return target


def smoke_run(
    folder: Path, commands: tuple[str, ...] = ("train", "llc", "heads", "stages", "chart")
) -> Smoke:
    """runs/smoke with few SGLD draws, taken through the pipeline by commands with --json."""
    path = folder / "smoke"
    path.mkdir()
    (path / "config.yaml").write_text(
        yaml.safe_dump(yaml.safe_load(SMOKE.read_text()) | {"llc": SMOKE_LLC})
    )
    values = {}
    for command in commands:
        result = devsort(command, path, "--json")
        assert result.code == 0, result.err
        values[command] = json.loads(result.out)
    return Smoke(path, values)
