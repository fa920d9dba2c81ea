"""Data sets: verified or refused, replaced whole, and the same values are the same bytes."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from folders import hashes, told

from devsort.storage.artifact import Origin
from devsort.storage.datasets import read_dataset, write_dataset

ORIGIN = Origin("devsort heads x", "{}", "abc")
ANEW = "; run `devsort heads x --force` to discard it and make it again"
AGAIN = "; run `devsort heads x --force` to make it again"


def dataset() -> xr.Dataset:
    """Numbers, not a number, truth and names."""
    scores = np.array([[0.5, np.nan], [0.25, -1.0]], np.float32)
    data = {"scores": (("step", "score"), scores), "found": ("step", np.array([True, False]))}
    names = np.array(["overlap", "δ̄"], object)
    return xr.Dataset(data, {"step": [1, 10], "score": names}, {"events": "[]"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "heads.zarr"
    write_dataset(path, dataset(), ORIGIN)
    return path


def test_a_data_set_comes_back_with_its_checksum(path):
    found, checksum = read_dataset(path, ORIGIN)
    xr.testing.assert_equal(found, dataset())
    assert found.scores.dtype == np.float32 and found.attrs["events"] == "[]"
    assert found.attrs.items() >= ORIGIN.attributes.items()
    write_dataset(path, dataset().assign(scores=dataset().scores * 2), ORIGIN)
    assert read_dataset(path, ORIGIN)[1] != checksum


def test_written_twice_it_is_the_same_bytes(path):
    before = hashes(path)
    write_dataset(path, dataset(), ORIGIN)
    assert hashes(path) == before


def lose_a_chunk(path: Path) -> None:
    """A lost chunk reads as nothing but not a number."""
    shutil.rmtree(path / "scores" / "c")


def rename_a_score(path: Path) -> None:
    renamed = dataset().assign_coords(score=np.array(["a", "b"], object))
    write_dataset(path.with_name("other"), renamed, ORIGIN)
    shutil.rmtree(path / "score")
    shutil.copytree(path.with_name("other") / "score", path / "score")


def break_metadata(path: Path) -> None:
    (path / "zarr.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lose_a_chunk, "does not match its checksum"),
        (rename_a_score, "does not match its checksum"),
        (break_metadata, "is cut short or damaged ("),
    ],
)
def test_damage_is_told(path, damage, what):
    damage(path)
    message = told(read_dataset, path, ORIGIN)
    assert message.startswith(f"{path} {what}") and message.endswith(AGAIN)


def test_what_is_missing_or_stale_names_the_command(path):
    other = Origin(ORIGIN.command, "{}", "of other inputs")
    assert told(read_dataset, path, other) == f"{path} was made from other inputs{ANEW}"
    shutil.rmtree(path)
    assert told(read_dataset, path, ORIGIN) == f"{path} is missing; run `devsort heads x` first"
