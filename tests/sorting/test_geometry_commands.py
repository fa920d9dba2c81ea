"""Geometry in the commands: what a run says of it, and what is refused."""

import json

import pytest
import yaml
from commands import devsort, last_line

from devsort.sorting.artifacts import LLC
from devsort.sorting.geometry import sorter_blocks
from devsort.sorting.model import init_params, model_shape
from devsort.sorting.run import open_run

ABSOLUTE = ("--set", "llc.sampler.geometry=absolute")


def in_geometry(smoke, folder, geometry: str):
    """A copy of the finished run with its checkpoints and heads, for another geometry."""
    path = smoke.copy(folder, "checkpoints", "training.jsonl", "heads.zarr")
    config = yaml.safe_load((path / "config.yaml").read_text())
    config["llc"]["sampler"] = {
        **{k: v for k, v in config["llc"]["sampler"].items() if k not in ("lr", "localization")},
        "geometry": geometry,
    }
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    for command in ("llc", "stages"):
        assert devsort(command, path).code == 0
    return path


def test_relative_is_the_default_and_the_store_says_so(smoke):
    run = open_run(smoke.path)
    assert run.config.llc.sampler.geometry == "relative"
    assert run.read(LLC).attrs["sampler"]["geometry"] == "relative"
    assert smoke.values["llc"]["geometry"] == "relative"


def test_runs_in_different_geometries_are_not_compared(smoke, tmp_path):
    path = in_geometry(smoke, tmp_path, "absolute")
    result = devsort("compare", smoke.path, path, "--out", tmp_path / "out")
    assert result.code == 2
    assert last_line(result.err) == (
        "devsort: error: the LLCs of these runs are in different geometries; sample them in one "
        "geometry: `devsort llc RUN --set llc.sampler.geometry=relative`"
    )


def test_an_absolute_trajectory_whose_scales_change_says_what_that_does(smoke, tmp_path):
    path = in_geometry(smoke, tmp_path, "absolute")
    value = json.loads(devsort("llc", path, "--json").out)
    (note,) = value["notes"]
    assert note.startswith("scale_changes: ") and "set llc.sampler.geometry=relative" in note
    assert smoke.values["llc"]["notes"] == []


def test_devinterp_is_asked_for_with_its_own_method_alone(smoke):
    result = devsort("llc", smoke.path, "--sampler", "devinterp")
    assert last_line(result.err) == (
        "devsort: error: --sampler devinterp supports only SGLD; add --set "
        "llc.sampler.sampling_method=sgld"
    )


@pytest.mark.parametrize("layer_norm", [True, False])
def test_every_parameter_has_its_block(tiny_config, layer_norm):
    model = tiny_config.model.model_copy(update={"layer_norm": layer_norm})
    shape = model_shape(tiny_config.task, model)
    named = set(sorter_blocks(shape)) | {"embed.W_E", "pos_embed.W_pos", "unembed.W_U"}
    assert named == set(init_params(shape, 0.8, 0))
