"""What training leaves, checkpoints, log and resume state: which there should be, and whether they are whole."""

import json
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from devsort.artifacts import Run, changes, identity, load_checkpoint, load_tensors, origin_of_step, provenance
from devsort.config import ScheduleConfig, TrainConfig
from devsort.errors import Stale, UserError, interruptible

LOG_KEYS = {"step", "loss", "val_loss", "val_accuracy", "lr", "weight_norm"}  # of a line of training.jsonl


def checkpoint_steps(schedule: ScheduleConfig, steps: int) -> list[int]:
    """Steps that are saved: 10^(i / per_decade) rounded, from 1 to linear_from; every linear_every after; the last."""
    saved, i, step = {steps}, 0, 1
    while step <= min(schedule.linear_from, steps):
        saved.add(step)
        i += 1
        step = round(10 ** (i / schedule.per_decade))
    saved.update(range(schedule.linear_from, steps + 1, schedule.linear_every))
    return sorted(saved)


def logged_steps(config: TrainConfig) -> list[int]:
    """Steps with a line in training.jsonl: the saved ones and every `log_every`-th."""
    every = range(config.log_every, config.steps + 1, config.log_every)
    return sorted({*checkpoint_steps(config.checkpoints, config.steps), *every})


def read_log(run: Run) -> list[dict]:
    """The lines of training.jsonl, up to the first that is damaged."""
    if not run.training_log.is_file():
        raise UserError(f"{run.training_log} is missing", f"run `devsort train {run.path}` first")
    lines = run.training_log.read_text(encoding="utf-8", errors="replace").splitlines()
    return list(_parsed(lines))


def _parsed(lines: list[str]) -> Iterator[dict]:
    for line in lines:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            return
        if not isinstance(value, dict) or not all(isinstance(value.get(key), int | float) for key in LOG_KEYS):
            return
        yield value


def check_training(run: Run, step: int) -> int:
    """Verifies checkpoints, log and resume state up to a step; returns the number of checkpoints.

    Raises:
        UserError: One of them is missing, damaged or from another config; names the command that makes it.
    """
    load_resume_state(run, step)
    config, fix = run.config.train, f"run `devsort train {run.path}` to make it again"
    lines = [line for line in read_log(run) if line["step"] <= step]
    wrong = _metadata(run.resume_state).get("log", identity(lines)) != identity(lines)
    if wrong or [line["step"] for line in lines] != [s for s in logged_steps(config) if s <= step]:
        raise UserError(f"{run.training_log} does not match its checksum", fix)
    steps = [s for s in checkpoint_steps(config.checkpoints, config.steps) if s <= step]
    for saved in steps:
        load_checkpoint(run, saved)
    return len(steps)


def load_resume_state(run: Run, step: int) -> dict[str, Tensor]:
    """Weights and moments of Adam at the step; see `artifacts.load_tensors` for what is verified."""
    return load_tensors(run.resume_state, origin_of_step(run, step), f"devsort train {run.path}")


def resume_step(run: Run) -> int:
    """The step to go on from: that of the resume state, or 0 if anything up to there is missing or damaged."""
    _refuse_another_config(run)
    saved = load_resume_step(run)
    try:
        check_training(run, saved)
    except UserError:
        return 0
    return saved


def _refuse_another_config(run: Run) -> None:
    """Raises Stale if a file in checkpoints/ says that it was made from another config."""
    origin = provenance(run)
    for path in [run.resume_state, *map(run.checkpoint, run.steps())]:
        found = _metadata(path)
        if found.get("config") not in (None, origin["config"]):
            fix = f"undo the change, or run `devsort train {run.path} --force` to start again"
            raise Stale(f"{run.checkpoints} was trained from another config{changes(found, origin)}", fix)


def load_resume_step(run: Run) -> int:
    """The step of the resume state; 0 where there is none."""
    step = _metadata(run.resume_state).get("step", "0")
    return int(step) if step.isdecimal() and len(step) < 12 else 0


def _metadata(path: Path) -> dict[str, str]:
    """The header of a safetensors file; empty where there is none that can be read."""
    try:
        with interruptible(), safe_open(path, "pt") as f:
            return f.metadata() or {}
    except (SafetensorError, OSError, ValueError):
        return {}
