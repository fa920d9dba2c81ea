"""Peak, final value and fall of an LLC trajectory, with 95 % intervals."""

from typing import TYPE_CHECKING, Any

import numpy as np

from devsort.rng import stream

if TYPE_CHECKING:
    import xarray as xr

RESAMPLES = 1000
FIGURES = ("peak_llc", "final_llc", "fall")


def summary(llc: "xr.Dataset") -> dict[str, Any]:
    """Summarizes the first restriction, which is the whole model if it was sampled.

    A value is None if it is unknown. The peak is the largest estimate. The interval of its step
    comes from resampling the estimates within their errors. The fall is the peak minus the final
    value. Two independent 95 % intervals are combined as sqrt(h_a² + h_b²), where h is half a
    width.

    Args:
        llc: The table of a trajectory; see `devsort.llc.table`.

    Returns:
        peak_llc, final_llc and fall, each with _se, _ci95 and _flags (the names of the flags of the
        estimates it is computed from); peak_step with _ci95; and flagged, the fraction of estimates
        that have a flag.
    """
    full = llc.isel(restriction=0)
    step, value, se = (a.values.astype(float) for a in (llc.checkpoint, full.llc, full.se))
    half = np.diff(full.ci95.transpose("checkpoint", "bound").values)[:, 0] / 2
    flagged = float(full.flags.any("flag").mean())
    raised = full.flags.transpose("checkpoint", "flag").values.astype(bool)
    known = np.isfinite(value) & (step >= 1)
    if not known.any():
        names = ("peak_step", *FIGURES)
        return {**{key: None for name in names for key in _keys(name)}, "flagged": flagged}
    step, value, se, half, raised = (a[known] for a in (step, value, se, half, raised))
    top, last = int(np.argmax(value)), len(value) - 1
    resampled = value + np.nan_to_num(se) * stream(0, "peak step").standard_normal(
        (RESAMPLES, len(value))
    )
    flags = {"peak_llc": raised[top], "final_llc": raised[last], "fall": raised[top] | raised[last]}
    apart = float(top < last)  # a trajectory that ends at its peak does not fall at all
    return {
        "peak_step": float(step[top]),
        "peak_step_ci95": np.quantile(step[resampled.argmax(1)], [0.025, 0.975]).tolist(),
        **_figure("peak_llc", value[top], se[top], half[top]),
        **_figure("final_llc", value[last], se[last], half[last]),
        **_figure(
            "fall",
            value[top] - value[last],
            apart * np.hypot(se[top], se[last]),
            apart * np.hypot(half[top], half[last]),
        ),
        **{f"{name}_flags": full.flag.values[of].tolist() for name, of in flags.items()},
        "flagged": flagged,
    }


def _keys(name: str) -> tuple[str, ...]:
    suffixes = ("", "_ci95") if name == "peak_step" else ("", "_se", "_ci95", "_flags")
    return tuple(name + suffix for suffix in suffixes)


def _figure(name: str, value: float, se: float, half: float) -> dict[str, Any]:
    interval = [float(value - half), float(value + half)] if np.isfinite(half) else None
    return {name: float(value), f"{name}_se": _known(se), f"{name}_ci95": interval}


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
