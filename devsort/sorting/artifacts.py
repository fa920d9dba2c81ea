"""Every artifact of a run: what it is made from, which command makes it, and how it is read.

`run.read(LLC)` returns the verified value of an artifact, and `run.update(HEADS, …)` makes an
artifact again if it is out of date. In the table `…` stands for task, model and train.

| artifact       | made from                  | by `devsort …`          | value                |
|----------------|----------------------------|-------------------------|----------------------|
| CHECKPOINTS    | task, model, train         | train                   | steps that are saved |
| LLC            | … llc, sampled checkpoints | llc                     | draws and table      |
| LLC_DEVINTERP  | … llc, sampled checkpoints | llc --sampler devinterp | draws and table      |
| HEADS          | … heads, all checkpoints   | heads                   | data set             |
| STAGES         | … stages, LLC, HEADS       | stages                  | JSON object          |
| FIGURES        | LLC, HEADS, STAGES         | chart                   | names of the files   |
| CALIBRATION    | … llc, checkpoints         | calibrate               | JSON object          |
| SUSCEPTIBILITY | … susceptibility, LLC      | susceptibility          | data set             |
"""

from typing import TYPE_CHECKING, Any

from devsort.errors import UserError
from devsort.sorting.checkpoints import (
    CHECKPOINTS,
    TRAIN,
    sampled_steps,
    trained_steps,
    weights_identity,
)
from devsort.sorting.run import Run
from devsort.storage.artifact import Artifact, Origin, identity
from devsort.storage.datasets import read_dataset
from devsort.storage.objects import read_object

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "CALIBRATION",
    "CHECKPOINTS",
    "FIGURES",
    "HEADS",
    "LLC",
    "LLC_DEVINTERP",
    "STAGES",
    "SUSCEPTIBILITY",
    "TRAIN",
]


MADE_FROM = "made-from.json"  # in figures/: what the figures show


def _all_weights(run: Run) -> str:
    return weights_identity(run, trained_steps(run))


def _sampled_weights(run: Run) -> str:
    return weights_identity(run, sampled_steps(run))


def _read_llc(run: Run, origin: Origin) -> tuple["xr.Dataset", str]:
    from devsort.llc.describe import described
    from devsort.llc.store import read_store

    found, checksum = read_store(run.llc, origin)
    return described(found), checksum


def _read_llc_devinterp(run: Run, origin: Origin) -> tuple["xr.Dataset", str]:
    from devsort.llc.store import read_store

    return read_store(run.llc_devinterp, origin)


def _read_heads(run: Run, origin: Origin) -> tuple["xr.Dataset", str]:
    from devsort.llc.describe import described
    from devsort.sorting.heads.variables import VARIABLES

    found, checksum = read_dataset(run.heads, origin)
    return described(found, VARIABLES), checksum


def _read_stages(run: Run, origin: Origin) -> tuple[dict[str, Any], str]:
    value, checksum = read_object(run.stages, origin)
    return {"run": str(run.path), **value}, checksum


def _read_figures(run: Run, origin: Origin) -> tuple[list[str], str]:
    value, checksum = read_object(run.figures / MADE_FROM, origin)
    for name in value["files"]:
        if not (run.figures / name).is_file():
            raise UserError(f"{run.figures / name} is missing", origin.again)
    return value["files"], checksum


def _read_calibration(run: Run, origin: Origin) -> tuple[dict[str, Any], str]:
    return read_object(run.calibration, origin)


def _read_susceptibility(run: Run, origin: Origin) -> tuple["xr.Dataset", str]:
    return read_dataset(run.susceptibility, origin)


LLC = Artifact("llc", "llc", (*TRAIN, "llc"), _sampled_weights, _read_llc, format=5)
LLC_DEVINTERP = Artifact(
    "llc_devinterp",
    "llc --sampler devinterp",
    (*TRAIN, "llc"),
    _sampled_weights,
    _read_llc_devinterp,
    format=5,
)
HEADS = Artifact("heads", "heads", (*TRAIN, "heads"), _all_weights, _read_heads, format=3)
STAGES = Artifact(
    "stages",
    "stages",
    (*TRAIN, "llc", "heads", "stages"),
    lambda run: identity([run.checksum(LLC), run.checksum(HEADS)]),
    _read_stages,
    format=3,
)
FIGURES = Artifact(
    "figures",
    "chart",
    (),
    lambda run: identity([run.checksum(artifact) for artifact in (LLC, HEADS, STAGES)]),
    _read_figures,
    force=False,  # `chart` always draws them again
)
SUSCEPTIBILITY = Artifact(
    "susceptibility",
    "susceptibility",
    (*TRAIN, "llc", "susceptibility"),
    lambda run: identity([run.checksum(LLC)]),
    _read_susceptibility,
)
CALIBRATION = Artifact("calibration", "calibrate", (*TRAIN, "llc"), _all_weights, _read_calibration)
