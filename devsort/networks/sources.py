"""Sources of checkpoints: a folder, a mapping, or steps with a function that loads each of them.

In a folder, every weight file and every Hugging Face folder is a checkpoint if its name contains
the step at which it was saved. The step is the number after `step` (`step-100`,
`epoch=1-step=100`), or else the number after `checkpoint` (`checkpoint-100`), or else the only
number in the name (`ckpt_100`, `000100`). A name with several numbers and neither word is an error,
and so is `step-1e5` or `10k`. Files without a number, such as `last.ckpt`, are left out.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from devsort.errors import UserError
from devsort.storage.artifact import identity
from devsort.storage.shards import ends_of, folder_files, load_state_dict
from devsort.storage.tensors import checksum
from devsort.storage.weights import state_dict_in

State = dict[str, Tensor]
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")  # suffixes of weight files
LABELLED = (r"step[-_=]?(\d+)", r"checkpoint[-_=]?(\d+)")
GOES_ON = re.compile(r"[.,]\d|e\d|[kmb](?![a-z])", re.IGNORECASE)  # 1,000, 1e5, 10k
FIX = "give a mapping of steps to files, {100: 'a.pt', …}"
GIVE = "give a state dict, a module or a file for each step"
COPY = "copy each when it is saved, {n: t.clone() for n, t in model.state_dict().items()}"


@dataclass(frozen=True)
class Source:
    """A source of checkpoints.

    Attributes:
        steps: Training steps, in ascending order.
        load: Step → state dict.
        identify: Step → a string that identifies the weights.
        notes: One sentence for each thing that was left out.
    """

    steps: tuple[int, ...]
    load: Callable[[int], State]
    identify: Callable[[int], str]
    notes: tuple[str, ...] = ()

    def identity(self) -> str:
        """Returns the identity of all checkpoints."""
        return identity({str(step): self.identify(step) for step in self.steps})


def source_of(checkpoints: Any) -> Source:
    """Returns the source for a folder, a mapping, or steps and a function.

    Args:
        checkpoints: A folder; a mapping from steps to state dicts, modules or paths; or a pair of
            the steps and a function that returns one of these for a step. One in memory may
            hold the state dict among other things, as a file may.

    Raises:
        UserError: If there are no checkpoints, no name contains a step, the step in a name is not
            clear, two names contain the same step, or two checkpoints are the same tensors in
            memory.
    """
    if isinstance(checkpoints, Source):
        return checkpoints
    if isinstance(checkpoints, str | Path):
        return _of_folder(Path(checkpoints))
    if isinstance(checkpoints, Mapping):
        return _of_mapping(checkpoints)
    if isinstance(checkpoints, tuple) and len(checkpoints) == 2 and callable(checkpoints[1]):
        steps, load = checkpoints
        return _checked(steps, lambda step: _loaded(load, step))
    kind = type(checkpoints).__name__
    fix = "give a folder, {step: state dict}, or (steps, function)"
    raise UserError(f"checkpoints are given as a {kind}", fix)


def step_of(name: str) -> int | None:
    """Returns the training step in a name, by the rule of the module; None if it has no number.

    Raises:
        UserError: If the name has several numbers and none is labelled as the step, or the step is
            not written as a whole number.
    """
    for pattern in (*LABELLED, r"(\d+)"):
        numbers = {m[1]: m.end() for m in re.finditer(pattern, name, re.IGNORECASE)}
        if len(numbers) == 1:
            [(digits, end)] = numbers.items()
            if GOES_ON.match(name, end):
                what = f"{name}: {name[end:]!r} follows the number {digits}"
                raise UserError(f"{what}, which may not be the whole step", FIX)
            return int(digits)
    if numbers:
        raise UserError(f"{name} contains several numbers, and which is the step is unclear", FIX)
    return None


def _of_folder(folder: Path) -> Source:
    if not folder.is_dir():
        raise UserError(
            f"{folder} is not a folder", "give the folder that contains the checkpoints"
        )
    candidates = [p for p in sorted(folder.iterdir()) if _is_checkpoint(p)]
    steps = {path: step_of(path.name if path.is_dir() else path.stem) for path in candidates}
    named = {path: step for path, step in steps.items() if step is not None}
    without = [path.name for path, step in steps.items() if step is None]
    if not named:
        what = f"{folder} has no weight file with a step in its name"
        raise UserError(what, f"name them as in step-100.safetensors, or {FIX}")
    paths: dict[int, Path] = {}
    for path, step in named.items():
        if step in paths:
            raise UserError(f"{paths[step].name} and {path.name} are both step {step}", FIX)
        paths[step] = path
    notes = (f"left out, with no step in their names: {', '.join(without)}",) if without else ()
    return _of_paths(paths, notes)


def _of_paths(paths: Mapping[int, Path], notes: tuple[str, ...] = ()) -> Source:
    return Source(
        _steps(paths),
        lambda step: load_state_dict(paths[step]),
        lambda step: ends_of(paths[step]),
        notes,
    )


def _of_mapping(by_step: Mapping[int, Any]) -> Source:
    steps = _steps(by_step)
    if all(isinstance(value, str | Path) for value in by_step.values()):
        return _of_paths({step: Path(by_step[step]) for step in steps})
    _refuse_shared(by_step)
    return _checked(steps, lambda step: _loaded(by_step.__getitem__, step))


def _checked(steps: Iterable[int], load: Callable[[int], State]) -> Source:
    return Source(_steps(steps), load, lambda step: checksum(load(step)))


def _refuse_shared(given: Mapping[int, Any]) -> None:
    """Refuses checkpoints that share memory: `state_dict()` returns references, not copies."""
    seen: dict[frozenset[int], int] = {}
    for step, value in given.items():
        state = value.state_dict() if isinstance(value, torch.nn.Module) else value
        values = state.values() if isinstance(state, Mapping) else ()
        places = frozenset(t.data_ptr() for t in values if isinstance(t, Tensor) and t.numel())
        if places in seen:
            what = f"the checkpoints of steps {seen[places]} and {step} are the same memory"
            raise UserError(what, COPY)
        if places:
            seen[places] = step


def _loaded(load: Callable[[int], Any], step: int) -> State:
    """Loads a copy of a state dict, or of that of a module or file. An error names the step."""
    where = f"the checkpoint of step {step}"
    try:
        value = load(step)
        value = value.state_dict() if hasattr(value, "state_dict") else value
    except UserError:
        raise
    except Exception as e:  # a user's function can raise anything
        raise UserError(f"{where} cannot be loaded ({type(e).__name__}: {e})", GIVE) from e
    if isinstance(value, str | Path):
        return load_state_dict(Path(value))
    state = state_dict_in(value, where, GIVE, lambda t: isinstance(t, Tensor | np.ndarray))
    # a function may load every step into the same module
    return {name: torch.as_tensor(t).detach().clone() for name, t in state.items()}


def _steps(steps: Iterable[int]) -> tuple[int, ...]:
    steps = list(steps)
    if not steps:
        raise UserError("there are no checkpoints", "give at least one")
    if not all(map(_is_step, steps)) or len(set(steps)) != len(steps):
        what = f"steps {steps[:5]} … are not distinct whole numbers from 0"
        raise UserError(what, "give each checkpoint the training step at which it was saved")
    return tuple(sorted(map(int, steps)))


def _is_step(value: Any) -> bool:
    number = isinstance(value, Real) and not isinstance(value, bool)
    return number and float(value).is_integer() and value >= 0


def _is_checkpoint(path: Path) -> bool:
    return bool(folder_files(path)) if path.is_dir() else path.suffix in SUFFIXES
