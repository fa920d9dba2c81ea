"""The files that training writes: checkpoints, log and resume state.

This module says which of them there should be, and checks that they are complete and intact.
"""

import json
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from devsort.errors import Stale, Unfinished, UserError
from devsort.llc.steps import chosen_steps
from devsort.sorting.config import ScheduleConfig, TrainConfig
from devsort.sorting.run import Run
from devsort.storage.artifact import Artifact, alternatives, changes, identity, undo
from devsort.storage.tensors import load_tensors, read_metadata, save_tensors

# every line of training.jsonl has these
LOG_KEYS = {"step", "loss", "val_loss", "val_accuracy", "lr", "weight_norm"}


TRAIN = ("task", "model", "train")  # config sections that training depends on
CHECKPOINTS = Artifact(
    name="checkpoints",
    command="train",
    sections=TRAIN,
    inputs=lambda run: "",
    read=lambda run, origin: read_checkpoints(run),
    force=False,  # `train` repairs damaged files without --force
)


def save_checkpoint(run: Run, step: int, params: Mapping[str, Tensor]) -> None:
    """Saves the weights of one step, together with the step and the config that made them."""
    save_tensors(run.checkpoint(step), params, run.origin(CHECKPOINTS), step=str(step))


def load_checkpoint(run: Run, step: int) -> dict[str, Tensor]:
    """Reads the weights of one step; see `load_tensors` for what is verified."""
    return load_tensors(run.checkpoint(step), run.origin(CHECKPOINTS), step=str(step))


def weights_identity(run: Run, steps: Sequence[int]) -> str:
    """Identity of the weights at some steps, from the checksum in each file's header.

    The checksum itself is verified by `load_checkpoint`, when the weights are read.

    Raises:
        UserError: The header of a file cannot be read; names the file and the command that makes
            it.
    """
    checksums = {str(s): read_metadata(run.checkpoint(s)).get("checksum") for s in steps}
    for step, checksum in checksums.items():
        if checksum is None:
            load_checkpoint(run, int(step))  # raises an error that says what is wrong
    return identity(checksums)


def trained_steps(run: Run) -> list[int]:
    """Saved steps of a run whose training is complete.

    Raises:
        UserError: There are no checkpoints.
        Unfinished: Training is not complete.
    """
    steps, fix = run.steps(), f"run `devsort train {run.path}` first"
    if not steps:
        raise UserError(f"{run.path} has no checkpoints yet", fix)
    if steps[-1] < run.config.train.steps:
        raise Unfinished(
            f"{run.path} was trained to step {steps[-1]} of {run.config.train.steps}", fix
        )
    return steps


def sampled_steps(run: Run) -> list[int]:
    """The steps at which the LLC is estimated.

    At most `llc.max_checkpoints` of the saved steps from `llc.first_step` on. If there are none,
    the last saved step.
    """
    config, saved = run.config.llc, trained_steps(run)
    late = [step for step in saved if step >= config.first_step]
    return chosen_steps(late or saved[-1:], config.max_checkpoints)


def checkpoint_steps(schedule: ScheduleConfig, steps: int) -> list[int]:
    """The steps at which a checkpoint is saved.

    10^(i / per_decade), rounded, from 1 to linear_from, then every linear_every steps, and the
    last step.
    """
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
        if not isinstance(value, dict) or not all(
            isinstance(value.get(key), int | float) for key in LOG_KEYS
        ):
            return
        yield value


def check_training(run: Run, step: int) -> int:
    """Verifies checkpoints, log and resume state up to a step; returns the number of checkpoints.

    Raises:
        UserError: One of these files is missing, damaged or from another config; names the command
            that makes it.
    """
    load_resume_state(run, step)
    config, fix = run.config.train, run.origin(CHECKPOINTS).again
    lines = [line for line in read_log(run) if line["step"] <= step]
    logged = [s for s in logged_steps(config) if s <= step]
    expected = read_metadata(run.resume_state).get("log", identity(lines))
    if expected != identity(lines) or [line["step"] for line in lines] != logged:
        raise UserError(f"{run.training_log} does not match its checksum", fix)
    steps = [s for s in checkpoint_steps(config.checkpoints, config.steps) if s <= step]
    for saved in steps:
        load_checkpoint(run, saved)
    return len(steps)


def read_checkpoints(run: Run) -> tuple[list[int], str]:
    """Verifies all files of training; returns the saved steps and the identity of the weights.

    Raises:
        UserError: A file is missing, damaged or from another config.
        Unfinished: Training is not complete, or was started again and has not reached the end.
    """
    steps, done = trained_steps(run), load_resume_step(run)
    if 0 < done < steps[-1]:
        fix = f"run `devsort train {run.path}` first"
        raise Unfinished(f"{run.path} was started again and has reached step {done}", fix)
    check_training(run, steps[-1])
    return steps, weights_identity(run, steps)


def save_resume_state(run: Run, step: int, tensors: Mapping[str, Tensor], log: str) -> None:
    """Saves the weights and Adam's moments; `log` is the identity of the log up to this step."""
    save_tensors(run.resume_state, tensors, run.origin(CHECKPOINTS), step=str(step), log=log)


def load_resume_state(run: Run, step: int) -> dict[str, Tensor]:
    """Weights and Adam's moments at the step; see `load_tensors` for what is verified."""
    return load_tensors(run.resume_state, run.origin(CHECKPOINTS), step=str(step))


def resume_step(run: Run) -> int:
    """The step to resume from.

    It is the step of the resume state, or 0 if a file up to that step is missing or damaged.
    """
    _refuse_another_config(run)
    saved = load_resume_step(run)
    try:
        check_training(run, saved)
    except UserError:
        return 0
    return saved


def load_resume_step(run: Run) -> int:
    """The step of the resume state, or 0 if there is none."""
    step = read_metadata(run.resume_state).get("step", "0")
    return int(step) if step.isdecimal() and len(step) < 12 else 0


def _refuse_another_config(run: Run) -> None:
    """Raises Stale if a file in checkpoints/ says that it was made from another config."""
    origin = run.origin(CHECKPOINTS)
    for path in [run.resume_state, *map(run.checkpoint, run.steps())]:
        stored = read_metadata(path).get("resolved")
        if stored is not None and (changed := changes(stored, origin.resolved)):
            restart = f"run `devsort train {run.path} --force` to discard it and start again"
            fix = alternatives(undo(stored, origin.resolved), restart)
            raise Stale(f"{run.checkpoints} was trained from another config{changed}", fix)
