"""The study file: its cells, their names and settings, and what is refused."""

import pytest
import yaml
from sweeps import write_study

from devsort.errors import UserError
from devsort.sorting.config import parse_config
from devsort.sweep import read_study
from devsort.sweep.study import config_text
from runs import TINY


def test_a_grid_is_every_value_with_every_other(tmp_path):
    study = read_study(
        write_study(tmp_path, grid={"seed": "0..1", "train.weight_decay": [0, 0.005]})
    )
    assert [c.name for c in study.cells] == [
        "seed0-weight_decay0", "seed0-weight_decay0.005",
        "seed1-weight_decay0", "seed1-weight_decay0.005",
    ]  # fmt: skip
    assert [c.values for c in study.cells][1] == {"seed": 0, "train.weight_decay": 0.005}
    assert [c.config.train.weight_decay for c in study.cells] == [0, 0.005, 0, 0.005]
    assert study.cells[0].steps == ("train", "llc", "heads", "stages")


def test_a_seed_sets_weights_data_and_chains(tmp_path):
    (cell,) = read_study(write_study(tmp_path, grid={"seed": [7]})).cells
    assert (cell.config.train.seed, cell.config.task.seed, cell.config.llc.sampler.seed) == (
        7,
        7,
        7,
    )


def test_groups_have_changes_and_grids_of_their_own(tmp_path):
    groups = {
        "decay": None,
        "no-norm": {"set": {"model.layer_norm": False}},
        "heads": {"grid": {"model.heads": [1, 3], "seed": [5]}},
    }
    study = read_study(
        write_study(tmp_path, set={"train.steps": 9}, grid={"seed": [0, 1]}, groups=groups)
    )
    names = [
        "decay-seed0",
        "decay-seed1",
        "no-norm-seed0",
        "no-norm-seed1",
        "heads-seed5-heads1",
        "heads-seed5-heads3",
    ]
    assert [c.name for c in study.cells] == names
    assert {c.config.train.steps for c in study.cells} == {9}
    # every cell says what each changed key is, also where it did not change it; what all share is
    # left out
    assert study.cells[0].values == {"seed": 0, "model.layer_norm": True, "model.heads": 2}
    assert study.cells[-1].values == {"seed": 5, "model.layer_norm": True, "model.heads": 3}
    assert [c.group for c in study.cells] == [
        "decay",
        "decay",
        "no-norm",
        "no-norm",
        "heads",
        "heads",
    ]


def test_later_changes_win(tmp_path):
    groups = {"a": {"set": {"train.steps": 7}, "grid": {"train.lr": [0.1]}}}
    (cell,) = read_study(
        write_study(
            tmp_path, set={"train.steps": 9, "train.lr": 1}, grid={"train.lr": [2.0]}, groups=groups
        )
    ).cells
    assert (cell.config.train.steps, cell.config.train.lr) == (7, 0.1)


def test_a_cells_config_file_is_the_cells_config(tmp_path):
    study = read_study(write_study(tmp_path, grid={"seed": [3], "task.mean_gap": [1.5]}))
    (cell,) = study.cells
    text = config_text(cell, study.path)
    assert text.startswith("# Cell seed3-mean_gap1.5 of study.yaml, written by `devsort sweep`")
    assert parse_config(yaml.safe_load(text), "") == cell.config


@pytest.mark.parametrize("base", ["run", "run/config.yaml", "../base.yaml"])
def test_the_base_may_be_a_run_folder_or_a_file_beside_the_study(tmp_path, base):
    folder = tmp_path / "studies"
    (folder / "run").mkdir(parents=True)
    for path in (folder / "run" / "config.yaml", tmp_path / "base.yaml"):
        path.write_text("train: {steps: 77}")
    (cell,) = read_study(write_study(folder, base=base)).cells
    assert (cell.name, cell.config.train.steps) == ("run", 77)


def test_steps_are_in_the_order_of_the_pipeline(tmp_path):
    """A group's own steps replace the study's."""
    groups = {"a": None, "b": {"steps": ["llc", "train"], "set": {"task.seed": 1}}}
    study = read_study(write_study(tmp_path, steps=["heads", "train"], groups=groups))
    assert [cell.steps for cell in study.cells] == [("train", "heads"), ("train", "llc")]


@pytest.mark.parametrize(
    ("key", "values", "name"),
    [
        ("model.layer_norm", [False], "layer_norm-false"),
        ("task.train_lists", [None], "train_lists-null"),
        ("train.lr", [1e-5], "lr1e_05"),
        ("llc.restrictions", [["full", "h0"]], "restrictions-_full_h0_"),
    ],
)
def test_names_hold_no_character_that_a_shell_minds(tmp_path, key, values, name):
    assert [c.name for c in read_study(write_study(tmp_path, grid={key: values})).cells] == [name]


def test_names_stay_short_and_different(tmp_path):
    parts = [["full"] * n for n in (30, 31)]
    names = [
        c.name for c in read_study(write_study(tmp_path, grid={"llc.restrictions": parts})).cells
    ]
    assert len(set(names)) == 2 and max(map(len, names)) == 120


def test_keys_of_one_last_part_are_told_apart(tmp_path):
    (cell,) = read_study(write_study(tmp_path, grid={"task.seed": [1], "train.seed": [2]})).cells
    assert cell.name == "task.seed1-train.seed2"


REFUSED = {
    "unknown part": (
        {"grids": {}},
        "unknown key grids; see docs/sweeps.md for the form of a study",
    ),
    "unknown step": (
        {"steps": ["trian"]},
        "steps.0: Input should be 'train', 'llc', 'heads', 'stages' or 'chart' (got 'trian'); "
        "see docs/sweeps.md for the form of a study",
    ),
    "unknown key": (
        {"grid": {"train.sted": [1]}},
        "cell sted1: unknown key train.sted; see `devsort config --help` for keys and ranges",
    ),
    "no section": (
        {"set": {"device.x": 1}},
        "cell run: device.x: device is not a section; see `devsort config --help`",
    ),
    "empty grid": (
        {"grid": {"seed": []}},
        "grid: seed has no values (got '[]'); write a list, or FROM..TO such as 0..15",
    ),
    "backward range": (
        {"grid": {"seed": "5..1"}},
        "grid: seed has no values (got '5..1'); write a list, or FROM..TO such as 0..15",
    ),
    "too many": (
        {"grid": {"seed": "0..99999", "train.steps": [1, 2]}},
        "asks for 200,000 cells, at most 100,000 are allowed; make its grids smaller",
    ),
    "group out of the folder": (
        {"groups": {"../x": {}}},
        "'../x' cannot name a group; use letters, digits, dots, dashes, at most 60",
    ),
    "twins": (
        {"groups": {"a": {}, "b": {"set": {"train.seed": 0}}}},
        "cells a and b have the same config; drop or change one of them",
    ),
    "one name": (
        {"grid": {"train.lr": [0.1, 0.10000000001]}},
        "cells lr0.1 and lr0.1 have the same name; drop or change one of them",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_study_that_cannot_be_run_is_refused_in_one_line(tmp_path, case):
    parts, message = REFUSED[case]
    path = write_study(tmp_path, **parts)
    with pytest.raises(UserError) as e:
        read_study(path)
    assert str(e.value).removeprefix(str(path)).removeprefix(":").strip() == message


def test_a_missing_study_and_a_missing_base_are_named(tmp_path):
    with pytest.raises(
        UserError, match=r"x\.yaml does not exist; give a study file, such as studies/small\.yaml"
    ):
        read_study(tmp_path / "x.yaml")
    with pytest.raises(UserError, match=r"nowhere\.yaml does not exist"):
        read_study(write_study(tmp_path, base="nowhere.yaml"))


def test_the_base_is_not_changed_by_its_cells(tmp_path):
    first, second = read_study(write_study(tmp_path, grid={"train.steps": [3, 4]})).cells
    assert (first.settings["train"]["steps"], second.settings["train"]["steps"]) == (3, 4)
    assert first.settings["train"]["batch_size"] == TINY["train"]["batch_size"]
