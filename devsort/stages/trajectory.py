"""A trajectory over training, as the input of the stage detector.

Positions are x = log10(step). A trajectory is read from a table (see `devsort.stages.tables`), or
taken from the LLC table of a run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from devsort.errors import UserError

if TYPE_CHECKING:
    import xarray as xr

MIN_POINTS = 3  # a line and one point to judge it by
MAX_POINTS, MAX_BYTES = 2000, 2**24  # limits for a CSV; this many points take seconds
# largest value in nats: larger squares, and those of an se below its inverse, would overflow
LARGEST = 1e12
LARGEST_STEP = 1e18  # a step may count tokens
# a standard error smaller than this fraction of the largest value is below its rounding error
ROUNDING = 1e-12


@dataclass(frozen=True)
class Trajectory:
    """Values with standard errors over training steps, in order of step.

    Attributes:
        step: (n,) training steps, at least 1, strictly increasing.
        llc: (n,) values, pure numbers.
        se: (n,) standard errors, positive; all NaN if none is known.
        loss: (n,) loss in nats, or None.
        chains: (n, C) value of each chain, or None; NaN for a chain that failed.
        flagged: (n,) true where the estimate has a flag.
        others: (S, n, 2) value and standard error of further signals with the same boundaries.
        notes: One sentence for each thing that was repaired on reading.
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
        """Returns values (S, n) and standard errors (S, n) of the LLC and the further signals."""
        llc = np.stack([self.llc, self.se])[:, None]  # (2, 1, n)
        others = np.empty((0, len(self), 2)) if self.others is None else self.others
        values, errors = np.concatenate([llc, np.moveaxis(others, -1, 0)], 1)
        return values, errors

    def select(self, index: np.ndarray) -> "Trajectory":
        """Returns the points selected by an index or mask."""
        rows = {"loss": self.loss, "chains": self.chains, "flagged": self.flagged}
        optional: dict[str, Any] = {k: None if v is None else v[index] for k, v in rows.items()}
        others = None if self.others is None else self.others[:, index]
        return replace(
            self,
            step=self.step[index],
            llc=self.llc[index],
            se=self.se[index],
            others=others,
            **optional,
        )


def from_llc(llc: "xr.Dataset", where: str = "llc.zarr", also: Sequence[str] = ()) -> Trajectory:
    """Returns the trajectory of the whole model from an LLC table.

    Args:
        llc: Dataset with `llc`, `se`, `llc_chain`, `flags`, `checkpoint_loss`; see docs/stages.md.
        where: The source of the table, for errors.
        also: Further restrictions (`h0`, …) or `loss`, which have the same boundaries.

    Raises:
        UserError: If a restriction is missing, or too few checkpoints have a finite estimate.
    """
    names = [str(r) for r in llc.restriction.values]
    missing = [r for r in ("full", *also) if r not in names and r != "loss"]
    if missing:
        raise UserError(
            f"{where} has no restriction {', '.join(missing)}, only {', '.join(names)}",
            "sample it as well",
        )
    full = llc.sel(restriction="full")
    step = llc.checkpoint.values.astype(float)
    loss = llc.checkpoint_loss.values.astype(float)
    trajectory = Trajectory(
        step=step,
        llc=full.llc.values.astype(float),
        se=positive_errors(full.se.values.astype(float), full.llc.values),
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
            return value, np.full(len(value), np.nan)  # NaN: estimated from the neighbours
        one = llc.sel(restriction=name)
        return one.llc.values.astype(float), positive_errors(
            one.se.values.astype(float), one.llc.values
        )

    return np.stack([np.stack(signal(name), -1) for name in also]) if also else None


def positive_errors(se: np.ndarray, llc: np.ndarray) -> np.ndarray:
    """Returns the standard errors, with missing ones replaced by the median of the others.

    All are NaN if none is known; the detector then estimates the scatter from neighbours.
    """
    known = known_errors(se, llc)
    return np.where(known, se, np.median(se[known]) if known.any() else np.nan)


def known_errors(se: np.ndarray, llc: np.ndarray) -> np.ndarray:
    """Returns (n,), true where a standard error is positive and above the rounding error."""
    largest = float(np.abs(llc[np.isfinite(llc)]).max(initial=0.0))
    return np.isfinite(se) & (se > max(ROUNDING * largest, 1 / LARGEST))
