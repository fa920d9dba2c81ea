"""A trajectory over training: what is segmented, wherever it came from.

Positions are x = log10(step). A trajectory is read from a CSV (columns step, llc, se and optionally
loss) or taken from the LLC table of a run.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from devsort.errors import UserError

if TYPE_CHECKING:
    import xarray as xr

MIN_POINTS = 3  # a line and one point to judge it by
MAX_POINTS, MAX_BYTES = 2000, 2**24  # of a CSV: so many are searched in seconds
# step, nats; the square of more would overflow in a sum, and that of an se below its inverse as
# well
LARGEST = 1e12
LARGEST_STEP = 1e18  # a step may count tokens
COLUMNS = ("step", "llc", "se")
# of the largest value: a smaller standard error is below the digits that the values are stored with
ROUNDING = 1e-12


@dataclass(frozen=True)
class Trajectory:
    """Values with standard errors over training steps, in order of step.

    Attributes:
        step: (n,) training steps, at least 1, strictly increasing.
        llc: (n,) values in nats.
        se: (n,) standard errors in nats, positive; all NaN if none is known.
        loss: (n,) loss in nats, or None.
        chains: (n, C) value of each chain in nats, or None; NaN marks a chain that failed.
        flagged: (n,) true where a diagnostic of the estimate failed.
        others: (S, n, 2) value and standard error of further signals that share the boundaries.
        notes: What was repaired on reading, one sentence each.
    """

    step: np.ndarray
    llc: np.ndarray
    se: np.ndarray
    loss: np.ndarray | None = None
    chains: np.ndarray | None = None
    flagged: np.ndarray | None = None
    others: np.ndarray | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def x(self) -> np.ndarray:
        """(n,) log10(step)."""
        return np.log10(self.step)

    def __len__(self) -> int:
        return len(self.step)

    def signals(self) -> tuple[np.ndarray, np.ndarray]:
        """(S, n) values and (S, n) standard errors of the LLC and the further signals."""
        llc = np.stack([self.llc, self.se])[:, None]  # (2, 1, n)
        others = np.empty((0, len(self), 2)) if self.others is None else self.others
        values, errors = np.concatenate([llc, np.moveaxis(others, -1, 0)], 1)
        return values, errors

    def select(self, index: np.ndarray) -> "Trajectory":
        """The points of an index or mask."""
        rows = {"loss": self.loss, "chains": self.chains, "flagged": self.flagged}
        kept = {k: None if v is None else v[index] for k, v in rows.items()}
        others = None if self.others is None else self.others[:, index]
        return replace(
            self,
            step=self.step[index],
            llc=self.llc[index],
            se=self.se[index],
            others=others,
            **kept,
        )


def read_csv(path: Path) -> Trajectory:
    """Reads a trajectory from a CSV with columns step, llc and optionally se and loss.

    Other columns are ignored. Repaired, with a note: rows out of order (sorted), rows whose llc is
    empty or NaN (left out), an se that is missing, zero or below the rounding of llc (the median of
    the others).

    Raises:
        UserError: No such file, no such columns, text where a number belongs, an impossible step, a
            step twice, or too few points.
    """
    rows = _rows(path)
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    trajectory, notes = _repaired(columns, path)
    _check_steps(trajectory.step, path)
    return replace(trajectory, notes=tuple(notes))


def from_llc(llc: "xr.Dataset", where: str = "llc.zarr", also: Sequence[str] = ()) -> Trajectory:
    """The trajectory of the whole model from the table of `devsort.llc.load_llc`.

    Args:
        llc: Dataset with `llc`, `se`, `llc_chain`, `flags`, `checkpoint_loss`; see docs/stages.md.
        where: Its source, for errors.
        also: Further restrictions (`h0`, …) or `loss` that share the boundaries.

    Raises:
        UserError: There is no full restriction, or too few checkpoints have a finite estimate.
    """
    names = [str(r) for r in llc.restriction.values]
    missing = [r for r in ("full", *also) if r not in names and r != "loss"]
    if missing:
        raise UserError(
            f"{where} has no restriction {', '.join(missing)}, only {', '.join(names)}",
            "sample it too",
        )
    full = llc.sel(restriction="full")
    step = llc.checkpoint.values.astype(float)
    loss = llc.checkpoint_loss.values.astype(float)
    trajectory = Trajectory(
        step=step,
        llc=full.llc.values.astype(float),
        se=_positive(full.se.values.astype(float), full.llc.values),
        loss=loss,
        chains=full.llc_chain.transpose("checkpoint", "chain").values.astype(float),
        flagged=full.flags.any("flag").values,
        others=_others(llc, also),
    )
    finite = np.isfinite(trajectory.llc) & (step >= 1)
    if finite.sum() < MIN_POINTS:
        raise UserError(
            f"{where} has {finite.sum()} usable checkpoints, expected {MIN_POINTS} or more",
            "sample more",
        )
    left_out = (
        [f"{int((~finite).sum())} checkpoints without a finite estimate were left out"]
        if not finite.all()
        else []
    )
    return replace(trajectory.select(finite), notes=tuple(left_out))


def _others(llc: "xr.Dataset", also: Sequence[str]) -> np.ndarray | None:
    def signal(name: str) -> tuple[np.ndarray, np.ndarray]:
        if name == "loss":
            value = np.log10(llc.checkpoint_loss.values.astype(float))
            return value, np.full(len(value), np.nan)  # of its neighbours
        one = llc.sel(restriction=name)
        return one.llc.values.astype(float), _positive(one.se.values.astype(float), one.llc.values)

    return np.stack([np.stack(signal(name), -1) for name in also]) if also else None


def _rows(path: Path) -> list[dict[str, float]]:
    if not path.is_file():
        raise UserError(
            f"{path} is missing", "give a CSV with the columns step, llc, se and optionally loss"
        )
    if path.stat().st_size > MAX_BYTES:
        raise UserError(
            f"{path} is larger than {MAX_BYTES:,} bytes",
            "keep the columns step, llc, se and loss alone",
        )
    try:
        with open(path, newline="", encoding="utf-8-sig") as f:
            reader = csv.DictReader(f)
            names = [(n or "").strip().lower() for n in reader.fieldnames or []]
            raw = list(csv.reader(f))
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise UserError(
            f"{path} is no readable CSV ({e})", "save it as UTF-8 text with commas"
        ) from None
    missing = [c for c in COLUMNS[:2] if c not in names]
    if missing:
        got = ", ".join(names) or "nothing"
        raise UserError(
            f"{path} has no column {' and no '.join(missing)} (got {got})",
            "name them in the first line",
        )
    used = {c: names.index(c) for c in (*COLUMNS, "loss") if c in names}
    lines = [
        (number, row) for number, row in enumerate(raw, 2) if any(cell.strip() for cell in row)
    ]
    rows = [{c: _number(row, i, c, number, path) for c, i in used.items()} for number, row in lines]
    if len(rows) < MIN_POINTS:
        raise UserError(
            f"{path} has {len(rows)} points, expected {MIN_POINTS} or more", "add points"
        )
    if len(rows) > MAX_POINTS:
        raise UserError(
            f"{path} has {len(rows)} points, expected {MAX_POINTS} or fewer",
            "keep some, over log step",
        )
    return rows


def _number(row: list[str], column: int, name: str, line: int, path: Path) -> float:
    cell = row[column].strip() if column < len(row) else ""
    try:
        value = float(cell) if cell else np.nan
    except ValueError:
        raise UserError(
            f"{path} line {line}: {name} is {cell[:40]!r}, expected a number", "mend the line"
        ) from None
    largest = LARGEST_STEP if name == "step" else LARGEST
    if largest < abs(value) < np.inf:
        raise UserError(
            f"{path} line {line}: {name} is {value:g}, beyond {largest:g}", "mend the line"
        )
    return value


def _repaired(columns: dict[str, np.ndarray], path: Path) -> tuple[Trajectory, list[str]]:
    notes = []
    kept = np.isfinite(columns["llc"])
    if not kept.all():
        notes.append(f"{int((~kept).sum())} rows without a finite llc were left out")
    if kept.sum() < MIN_POINTS:
        raise UserError(
            f"{path} has {int(kept.sum())} points with a finite llc, expected {MIN_POINTS} or more",
            "add points",
        )
    columns = {k: v[kept] for k, v in columns.items()}
    order = np.argsort(columns["step"], kind="stable")
    if (np.diff(order) < 0).any():
        notes.append("rows were sorted by step")
    columns = {k: v[order] for k, v in columns.items()}
    se = columns.get("se", np.full(len(order), np.nan))
    without = int((~_known(se, columns["llc"])).sum())
    if 0 < without < len(se):
        notes.append(f"{without} points without a positive se were given one")
    return Trajectory(
        columns["step"], columns["llc"], _positive(se, columns["llc"]), columns.get("loss")
    ), notes


def _positive(se: np.ndarray, llc: np.ndarray) -> np.ndarray:
    """Standard errors, with the median of the known ones where there is none.

    All NaN if none is known: the detector takes the scatter from neighbours.
    """
    known = _known(se, llc)
    return np.where(known, se, np.median(se[known]) if known.any() else np.nan)


def _known(se: np.ndarray, llc: np.ndarray) -> np.ndarray:
    """(n,) standard errors that are positive, and not below the rounding of the values."""
    largest = float(np.abs(llc[np.isfinite(llc)]).max(initial=0.0))
    return np.isfinite(se) & (se > max(ROUNDING * largest, 1 / LARGEST))


def _check_steps(step: np.ndarray, path: Path) -> None:
    bad = step[~(np.isfinite(step) & (step >= 1))]
    if len(bad):
        raise UserError(
            f"{path}: step {bad[0]:g} has no logarithm to place it at",
            "start at step 1, all steps finite",
        )
    twice = step[1:][np.diff(np.log10(step)) == 0]
    if len(twice):
        raise UserError(f"{path}: step {twice[0]:g} is there twice", "keep one row a step")
