"""The explorer: the development of a network as one HTML file, for any browser, offline."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from devsort.explorer.page import write_page
from devsort.explorer.panels import of_trajectory, response, traces_of
from devsort.sampling.trace import Trace
from devsort.stages.report import find_stages
from devsort.stages.trajectory import Trajectory

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["explore", "write_page"]


def explore(
    trajectory: Trajectory,
    stages: Mapping[str, Any] | None = None,
    out: str | PathLike = "explorer.html",
    *,
    name: str = "trajectory",
    traces: Sequence[Trace] | None = None,
    signals: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    responses: Mapping[str, "xr.DataArray"] | None = None,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Makes the page of any network's trajectory and returns its path.

    Args:
        trajectory: Steps, LLC with standard errors, and the loss in nats; `devsort.stages.read_csv`
            reads one.
        stages: The JSON object of `devsort stages`; computed if None.
        out: The HTML file.
        name: Name of the run.
        traces: One trace of `devsort.sample` for each step: the chains, R-hat, ESS and flags.
        signals: Further (steps, values) by name; each has a panel of its own.
        responses: Arrays of step, component and part of the data, by name: how much each component
            responds to each part, such as susceptibilities.
        about: Settings to keep with the page, such as the sampler's.

    Raises:
        UserError: `out` is a file that devsort did not write.
        ValueError: The numbers of traces and steps differ, or a response does not have three
            dimensions.
    """
    if traces is not None and len(traces) != len(trajectory):
        raise ValueError(f"{len(traces)} traces for {len(trajectory)} steps")
    run = {
        "name": name,
        "frames": trajectory.step.tolist(),
        "stages": find_stages(trajectory) if stages is None else dict(stages),
        "panels": of_trajectory(trajectory, traces, signals),
        "traces": traces_of(trajectory.step, traces) if traces else None,
        "responses": [response(name, values) for name, values in (responses or {}).items()] or None,
        "about": dict(about or {}),
    }
    return write_page(Path(out), [run])
