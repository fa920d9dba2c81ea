"""Runs that devsort made before artifacts carried a format.

Checkpoints are read. What is derived from them is refused in one line that names the command that
makes it again, and that command does.
"""

import json
from pathlib import Path

import pytest
import torch
import xarray as xr
import zarr
from commands import devsort
from safetensors.torch import load_file, save_file

from devsort import __version__
from devsort.sorting.artifacts import HEADS, LLC, LLC_DEVINTERP, STAGES
from devsort.sorting.checkpoints import load_checkpoint
from devsort.sorting.run import Run, open_run
from devsort.storage.artifact import Artifact
from devsort.storage.tensors import checksum, read_metadata

OLD = {"config": "57e132a37cedd2a1", "inputs": "551d4bd9c3d9e9fd"}  # hashes that nobody reads now


@pytest.fixture
def old_run(smoke, tmp_path) -> Run:
    """A trained run as it was: old metadata around the same weights, old artifacts beside them."""
    run = open_run(smoke.copy(tmp_path, "checkpoints", "training.jsonl"))
    for path in run.checkpoints.iterdir():
        as_it_was(path, run.resolved("task", "model", "train"))
    for path in (run.llc, run.llc_devinterp):
        group = zarr.open_group(path, mode="w", zarr_format=3)
        group.create_array("rise_small-gaps", shape=(1, 1, 1, 1), dtype="float32")
        group.attrs.update(attributes(run, LLC) | {"layout": {}, "axes": "", "table": "e1e873e5"})
    heads = xr.Dataset({"loss": ("checkpoint", [1.0])}, attrs=attributes(run, HEADS))
    marked = heads.assign_attrs(checksum="4817d3326a47a977")
    marked.to_zarr(run.heads, zarr_format=3, consolidated=False)
    value = {"run": str(run.path), "boundaries": [], "stages": [], "events": [], "notes": []}
    more = {"provenance": attributes(run, STAGES), "checksum": "9f18b23a97a4c809"}
    run.stages.write_text(json.dumps(value | more, indent=1))
    return run


def as_it_was(path: Path, resolved: str) -> None:
    """The same tensors with the metadata of that time."""
    tensors, now = load_file(path), read_metadata(path)
    kept = {name: now[name] for name in ("step", "log") if name in now}
    old = {"config": OLD["config"], "resolved": resolved, "checksum": checksum(tensors)}
    save_file(tensors, path, kept | old)


def attributes(run: Run, artifact: Artifact) -> dict[str, str]:
    return {"devsort": __version__, **OLD, "resolved": run.resolved(*artifact.sections)}


def test_checkpoints_are_read_and_training_is_done(old_run, smoke):
    mine, theirs = (load_checkpoint(run, 100) for run in (old_run, open_run(smoke.path)))
    assert all(torch.equal(mine[name], value) for name, value in theirs.items())
    result = devsort("train", old_run.path, "--json")
    assert result.code == 0 and json.loads(result.out)["steps_per_second"] == 0


@pytest.mark.parametrize(
    ("artifact", "asked", "again"),
    [
        (LLC, ("llc",), ("llc",)),
        (LLC, ("stages",), ("llc",)),
        (LLC, ("chart",), ("llc",)),
        (
            LLC_DEVINTERP,
            ("llc", "--sampler", "devinterp", "--set", "llc.sampler.geometry=absolute"),
            ("llc", "--sampler", "devinterp"),
        ),
    ],
    ids=["llc", "stages", "chart", "llc with devinterp"],
)
def test_an_old_llc_is_refused_by_who_reads_it(old_run, artifact, asked, again):
    result = devsort(asked[0], old_run.path, *asked[1:])
    remedy = (
        f"run `devsort {' '.join(again)} {old_run.path} --force` to discard it and make it again"
    )
    file = old_run.file(artifact)
    told = f"devsort: error: {file} was written in another format of devsort; {remedy}\n"
    assert (result.code, result.err) == (2, told)


def test_the_status_names_what_makes_an_old_run_whole_again(old_run):
    def parts() -> dict[str, tuple[str, str]]:
        found = json.loads(devsort("status", old_run.path, "--json").out)["parts"]
        return {part["part"]: (part["state"], part["detail"]) for part in found}

    assert parts()["checkpoints"] == ("done", "16 steps")
    for artifact in (LLC, HEADS, STAGES):
        state, detail = parts()[artifact.name]
        again = f"devsort {artifact.command} {old_run.path} --force"
        remedy = f"run `{again}` to discard it and make it again"
        file = old_run.file(artifact)
        expected = f"{file} was written in another format of devsort; {remedy}"
        assert (state, detail) == ("stale", expected)
        assert devsort(artifact.command, old_run.path, "--force").code == 0
    assert parts()["figures"][0] == "missing"
    assert devsort("chart", old_run.path).code == 0
    assert {state for state, _ in parts().values()} == {"done"}
