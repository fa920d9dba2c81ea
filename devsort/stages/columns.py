"""Which column of a stranger's table is what, by its name or by the caller's choice."""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from devsort.errors import UserError

# role → names that are known for it, the first of which is its own; docs/stages.md lists them
KNOWN = {
    "step": ("step", "steps", "global_step", "training_step", "train_step", "_step", "iteration"),
    "llc": ("llc", "llc_mean", "llc/mean", "mean_llc", "lambdahat", "lambda_hat"),
    "se": ("se", "llc_se", "stderr", "llc_stderr", "sem", "llc_sem", "standard_error"),
    "std": ("std", "llc_std", "llc/std", "std_llc", "sd", "llc_sd"),
    "chains": ("chains", "num_chains", "n_chains"),
    "loss": ("loss", "val_loss", "validation_loss", "test_loss", "train_loss"),
    "flag": ("flag", "flags", "flagged"),
}
EXTREMES = ("__min", "__max")  # columns of wandb that are no values of their own
NEEDED = ("step", "llc")
CHOOSE = "choose with --columns, as in --columns"


def chosen_columns(options: Iterable[str]) -> dict[str, str]:
    """Role → name from `--columns step=NAME`; one option may hold several, as in `step=a llc=b`.

    Raises:
        UserError: An option is no ROLE=NAME of a known role.
    """
    found: dict[str, str] = {}
    for option in options:
        for part in re.split(rf"[\s,]+(?=(?:{'|'.join(KNOWN)})=)", option.strip()):
            role, equals, name = part.partition("=")
            if role not in KNOWN or not equals or not name.strip():
                fix = f"write ROLE=NAME with one of the roles {', '.join(KNOWN)}"
                raise UserError(f"--columns {part!r} is not understood", fix)
            found[role] = name.strip()
    return found


def find_columns(
    names: Sequence[str], chosen: Mapping[str, str], path: Path
) -> tuple[dict[str, int], list[str]]:
    """The column of each role that is there, and what has to be said of the choice.

    Args:
        names: The first line of the table.
        chosen: Role → name, see `chosen_columns`.
        path: The file, for errors.

    Raises:
        UserError: A column that is needed or chosen is missing, or two could be meant.
    """
    found, notes = {}, []
    for role in KNOWN:
        fitting = _fitting(names, role, chosen.get(role), path)
        exact = [i for i in fitting if role in chosen or _plain(names[i]) == role]
        if len(exact or fitting) > 1:
            alike = len({_plain(names[i]) for i in exact or fitting}) == 1
            what = f"{path} has more than one column for {role}: {_list(names[i] for i in fitting)}"
            own = f"{CHOOSE} {shlex.quote(f'{role}={names[fitting[0]].strip()}')}"
            raise UserError(what, "rename or drop one of them" if alike else own)
        if fitting:
            found[role] = (exact or fitting)[0]
            notes += _said(role, names, found[role], fitting)
    missing = [role for role in NEEDED if role not in found]
    if missing:
        what = f"{path} has no column {' and no '.join(missing)} (got {_list(names) or 'nothing'})"
        chosen_ones = " ".join(f"{role}=NAME" for role in missing)
        raise UserError(what, f"name them in the first line, or {CHOOSE} {chosen_ones!r}")
    return found, notes


def _fitting(names: Sequence[str], role: str, chosen: str | None, path: Path) -> list[int]:
    """The columns that could be meant."""
    if chosen is None:
        return [i for i, name in enumerate(names) if _is(name, role)]
    found = [i for i, name in enumerate(names) if _plain(name) == _plain(chosen)]
    if not found:
        what = f"{path} has no column {chosen!r} for {role} (got {_list(names)})"
        raise UserError(what, "give a name of the first line")
    return found


def _said(role: str, names: Sequence[str], taken: int, fitting: Sequence[int]) -> list[str]:
    """A note where the name of a column is not the role's own, or others could be meant."""
    others = [repr(names[i]) for i in fitting if i != taken]
    if others:
        return [f"{role} is the column {names[taken]!r}, not {' or '.join(others)}"]
    return [] if _plain(names[taken]) == role else [f"{role} is the column {names[taken]!r}"]


def _is(name: str, role: str) -> bool:
    """Whether a column has a known name, perhaps after a run's ` - ` or a group's `/` (wandb)."""
    plain = _plain(name).rpartition(" - ")[2]
    if plain.endswith(EXTREMES):
        return False
    return any(plain == known or plain.endswith(f"/{known}") for known in KNOWN[role])


def _plain(name: str) -> str:
    return name.strip().lower()


def _list(names: Iterable[str]) -> str:
    return ", ".join(name.strip() for name in names)
