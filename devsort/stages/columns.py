"""Identifies the columns of a table, by their names or by the caller's choice."""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from devsort.errors import UserError

# role → names that are recognized for it, the first of which is the role; see docs/stages.md
KNOWN = {
    "step": ("step", "steps", "global_step", "training_step", "train_step", "_step", "iteration"),
    "llc": ("llc", "llc_mean", "llc/mean", "mean_llc", "lambdahat", "lambda_hat"),
    "se": ("se", "llc_se", "stderr", "llc_stderr", "sem", "llc_sem", "standard_error"),
    "std": ("std", "llc_std", "llc/std", "std_llc", "sd", "llc_sd"),
    "chains": ("chains", "num_chains", "n_chains"),
    "loss": ("loss", "val_loss", "validation_loss", "test_loss", "train_loss"),
    "flag": ("flag", "flags", "flagged"),
}
EXTREMES = ("__min", "__max")  # suffixes of wandb's columns of extremes, which are ignored
NEEDED = ("step", "llc")
CHOOSE = "choose with --columns, as in --columns"


def chosen_columns(options: Iterable[str]) -> dict[str, str]:
    """Parses `--columns step=NAME` and returns role → name.

    One option may contain several choices, as in `step=a llc=b`.

    Raises:
        UserError: If an option is not ROLE=NAME with a known role.
    """
    columns: dict[str, str] = {}
    for option in options:
        for part in re.split(rf"[\s,]+(?=(?:{'|'.join(KNOWN)})=)", option.strip()):
            role, equals, name = part.partition("=")
            if role not in KNOWN or not equals or not name.strip():
                fix = f"write ROLE=NAME with one of the roles {', '.join(KNOWN)}"
                raise UserError(f"--columns {part!r} is not understood", fix)
            columns[role] = name.strip()
    return columns


def find_columns(
    names: Sequence[str], chosen: Mapping[str, str], path: Path
) -> tuple[dict[str, int], list[str]]:
    """Returns the column of each role, and notes about the choice.

    Args:
        names: The first line of the table.
        chosen: Role → name; see `chosen_columns`.
        path: The file, for errors.

    Raises:
        UserError: If a required or chosen column is missing, or a role matches several columns.
    """
    columns, notes = {}, []
    for role in KNOWN:
        fitting = _fitting(names, role, chosen.get(role), path)
        exact = [i for i in fitting if role in chosen or _plain(names[i]) == role]
        if len(exact or fitting) > 1:
            alike = len({_plain(names[i]) for i in exact or fitting}) == 1
            what = f"{path} has more than one column for {role}: {_list(names[i] for i in fitting)}"
            own = f"{CHOOSE} {shlex.quote(f'{role}={names[fitting[0]].strip()}')}"
            raise UserError(what, "rename or drop one of them" if alike else own)
        if fitting:
            columns[role] = (exact or fitting)[0]
            notes += _column_note(role, names, columns[role], fitting)
    missing = [role for role in NEEDED if role not in columns]
    if missing:
        what = f"{path} has no column {' and no '.join(missing)} (got {_list(names) or 'nothing'})"
        example = " ".join(f"{role}=NAME" for role in missing)
        raise UserError(what, f"name them in the first line, or {CHOOSE} {example!r}")
    return columns, notes


def _fitting(names: Sequence[str], role: str, chosen: str | None, path: Path) -> list[int]:
    """Returns the columns that match a role, or the name that was chosen for it."""
    if chosen is None:
        return [i for i, name in enumerate(names) if _is(name, role)]
    columns = [i for i, name in enumerate(names) if _plain(name) == _plain(chosen)]
    if not columns:
        what = f"{path} has no column {chosen!r} for {role} (got {_list(names)})"
        raise UserError(what, "give a name from the first line")
    return columns


def _column_note(role: str, names: Sequence[str], column: int, fitting: Sequence[int]) -> list[str]:
    """Returns a note if a column is not named like its role, or others match it too."""
    others = [repr(names[i]) for i in fitting if i != column]
    if others:
        return [f"{role} is the column {names[column]!r}, not {' or '.join(others)}"]
    return [] if _plain(names[column]) == role else [f"{role} is the column {names[column]!r}"]


def _is(name: str, role: str) -> bool:
    """Whether a column has a known name, possibly with wandb's prefix of a run or group."""
    plain = _plain(name).rpartition(" - ")[2]
    if plain.endswith(EXTREMES):
        return False
    return any(plain == known or plain.endswith(f"/{known}") for known in KNOWN[role])


def _plain(name: str) -> str:
    return name.strip().lower()


def _list(names: Iterable[str]) -> str:
    return ", ".join(name.strip() for name in names)
