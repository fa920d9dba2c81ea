"""The contract of an artifact: what it says of itself, and how a change is told."""

import json

import pytest
from folders import told

from devsort import __version__
from devsort.errors import Stale
from devsort.storage.artifact import Origin, changes, check_exists, identity, undo

SECTIONS = {"task": {"seed": 0}, "train": {"lr": 0.001, "betas": [0.9, 0.999], "steps": 20}}
ORIGIN = Origin("devsort llc x", json.dumps(SECTIONS), "abc")
ANEW = "run `devsort llc x --force` to discard it and make it again"
AGAIN = "run `devsort llc x --force` to make it again"


def test_identity_depends_on_values_and_not_on_the_order_of_keys():
    assert identity({"a": 1, "b": [2]}) == identity({"b": [2], "a": 1})
    assert identity({"a": 1, "b": [2]}) != identity({"a": 1, "b": [3]})
    assert len(identity({})) == 16


def test_an_artifact_says_where_it_comes_from():
    assert ORIGIN.attributes == {
        "devsort": __version__,
        "format": "1",
        "resolved": json.dumps(SECTIONS),
        "inputs": "abc",
    }
    assert ORIGIN.again == AGAIN
    unforced = Origin("devsort train x", "{}", force=False)
    assert unforced.again == "run `devsort train x` to make it again"


def test_what_is_missing_names_the_command(tmp_path):
    path = tmp_path / "llc.zarr"
    assert told(check_exists, path, ORIGIN) == f"{path} is missing; run `devsort llc x` first"
    path.mkdir()
    check_exists(path, ORIGIN)


def test_origins_are_compared_key_by_key(tmp_path):
    made = ORIGIN.attributes
    ORIGIN.check(made | {"devsort": "0.0.1"}, tmp_path)  # of another version, which is no matter
    refusals = {
        "made from other inputs; ": made | {"inputs": "0"},
        "made from another config (train.lr was 1, is 0.001); "
        "undo the change, as with `--set train.lr=1`, or ": made
        | {"resolved": json.dumps({**SECTIONS, "train": {**SECTIONS["train"], "lr": 1}})},
        "made from another config (it does not say which) and other inputs; ": {},
        "written in another format of devsort; ": made | {"format": "2", "inputs": "0"},
    }
    for what, found in refusals.items():
        assert told(ORIGIN.check, found, tmp_path) == f"{tmp_path} was {what}{ANEW}"
        with pytest.raises(Stale):
            ORIGIN.check(found, tmp_path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ""),
        ({"train.lr": 0.5}, " (train.lr was 0.001, is 0.5)"),
        ({"train.betas": [0.5, 0.9], "task.seed": 1},
         " (task.seed was 0, is 1; train.betas was [0.9, 0.999], is [0.5, 0.9])"),
        ({"task.seed": 1, "train.lr": 0.5, "train.steps": 7, "train.betas": []},
         " (task.seed was 0, is 1; train.lr was 0.001, is 0.5; train.betas was [0.9, 0.999], is []; and 1 more)"),  # noqa: E501
        ({"heads.lists": 5}, " (heads.lists was None, is 5)"),
    ],
)  # fmt: skip
def test_what_changed_in_the_config_is_told(change, expected):
    now = json.loads(json.dumps(SECTIONS))
    for key, value in change.items():
        section, name = key.split(".")
        now.setdefault(section, {})[name] = value
    assert changes(json.dumps(SECTIONS), json.dumps(now)) == expected


@pytest.mark.parametrize(
    ("made_with", "expected"),
    [
        ({"lr": 0.5}, "undo the change, as with `--set train.lr=0.5`"),
        (
            {"betas": [0.5, 0.9], "lr_final": None},
            "undo the change, as with `--set 'train.betas=[0.5, 0.9]' --set train.lr_final=null`",
        ),
        ({"lr": "a b"}, "undo the change, as with `--set 'train.lr=\"a b\"'`"),
        ({"a": 1, "b": 2, "c": 3, "d": 4}, "undo the change"),  # too many to repeat
    ],
)
def test_the_settings_to_give_again_are_named_as_a_shell_takes_them(made_with, expected):
    now = json.loads(json.dumps(SECTIONS))
    now["train"] |= dict.fromkeys(made_with, 0)
    old = json.dumps({**now, "train": {**now["train"], **made_with}})
    assert undo(old, json.dumps(now)) == expected


def test_a_setting_that_an_older_version_lacked_cannot_be_given_again():
    assert undo(json.dumps({"task": {"seed": 0}}), json.dumps(SECTIONS)) == ""


@pytest.mark.parametrize("found", [None, "[", "[1]", 3, "3"])
def test_a_config_that_cannot_be_read_is_another_one(found):
    assert changes(found, json.dumps(SECTIONS)) == " (it does not say which)"
    assert undo(found, json.dumps(SECTIONS)) == ""


def test_the_order_of_keys_is_no_change():
    assert changes(json.dumps(dict(reversed(SECTIONS.items()))), json.dumps(SECTIONS)) == ""
