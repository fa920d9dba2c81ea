"""Restrictions by pattern, by entries and by mask."""

import re

import numpy as np
import pytest
import torch
from folders import told
from torch import nn

from devsort.errors import UserError
from devsort.networks.restrictions import masks_of
from devsort.sampling import module_loss

PARAMS = {
    "blocks.0.attn.qkv": torch.zeros(4, 12),
    "blocks.0.mlp.up": torch.zeros(4, 8),
    "blocks.1.attn.qkv": torch.zeros(4, 12),
    "head": torch.zeros(4),
}


def plain(params, batch):
    """A loss that is no module's."""


def test_patterns_entries_and_masks_say_the_same():
    half = torch.zeros(4, 12, dtype=torch.bool)
    half[:, 4:8] = True
    masks = masks_of(
        {
            "attention": ["blocks.*.attn.*"],
            "one": "head",
            "slice": {"blocks.0.attn.qkv": (slice(None), slice(4, 8))},
            "mask": {"blocks.0.attn.qkv": half},
            "whole": {"head": None},
        },
        PARAMS,
        plain,
    )
    assert list(masks) == ["full", "attention", "one", "slice", "mask", "whole"]
    assert masks["full"] is None
    assert masks["attention"] == {"blocks.0.attn.qkv": None, "blocks.1.attn.qkv": None}
    assert masks["one"] == masks["whole"] == {"head": None}
    assert torch.equal(masks["slice"]["blocks.0.attn.qkv"], half)
    assert torch.equal(masks["mask"]["blocks.0.attn.qkv"], half)


def test_a_pattern_passes_over_what_is_frozen_and_a_name_frees_it():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    net[0].weight.requires_grad_(False)
    loss, params = module_loss(net, lambda m, b: m(b))
    masks = masks_of({"first": "0.*", "named": ["0.weight", "0.bias"]}, params, loss)
    assert list(masks["first"]) == ["0.bias"]
    assert list(masks["named"]) == ["0.weight", "0.bias"]
    told = "restriction 'a': all parameters that match *.weight have requires_grad=False; "
    net.requires_grad_(False)
    loss, params = module_loss(net, lambda m, b: m(b))
    with pytest.raises(UserError, match=re.escape(told + "give their full names to free them")):
        masks_of({"a": "*.weight"}, params, loss)


NAMES = list(PARAMS)
REFUSED = {
    "no match": (
        {"a": "layers.*"},
        f"restriction 'a': no parameter matches layers.*; use names or patterns of {NAMES}",
    ),
    "no parameter": (
        {"a": {"tail": 0}},
        f"restriction 'a' names 'tail', which is not a parameter; use {NAMES}",
    ),
    "no names": (
        ["head"],
        "restrictions are given as a list; "
        "give name → patterns, as in {'attention': ['blocks.*.attn.*']}",
    ),
    "an index alone": (
        {"a": 3},
        "restriction 'a' is given as a int; give patterns of names, or parameter → entries as in "
        "{'head.weight': 3}",
    ),
    "nothing": (
        {"a": None},
        "restriction 'a' is given as a NoneType; give patterns of names, or parameter → entries as "
        "in {'head.weight': 3}",
    ),
    "a mask of nothing": (
        {"a": {"head": torch.zeros(4, dtype=torch.bool)}},
        "restriction 'a' leaves nothing free; free at least one entry",
    ),
    "no entries": (
        {"a": {"head": []}},
        "restriction 'a' leaves nothing free; free at least one entry",
    ),
    "the whole model's name": (
        {"full": "head"},
        "a restriction is named 'full', which is the whole model; give it another name",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(case):
    given, message = REFUSED[case]
    assert told(masks_of, given, PARAMS, plain) == message


def test_entries_come_as_numpy_or_python_has_them():
    """One head of a fused weight, three ways; and a mask of the first axis alone."""
    rows = np.zeros(4, bool)
    rows[1:3] = True
    masks = masks_of(
        {
            "range": {"blocks.0.attn.qkv": range(1, 3)},
            "array": {"blocks.0.attn.qkv": np.array([1, 2])},
            "bools": {"blocks.0.attn.qkv": rows},
            "names": (name for name in ["head"]),
        },
        PARAMS,
        plain,
    )
    expected = torch.from_numpy(rows)[:, None].expand(4, 12)
    for name in ("range", "array", "bools"):
        assert torch.equal(masks[name]["blocks.0.attn.qkv"], expected)
    assert masks["names"] == {"head": None}


def test_an_index_outside_of_a_parameter_is_refused():
    message = told(masks_of, {"a": {"head": 7}}, PARAMS, plain)
    assert message.startswith("restriction 'a': head has no entries 7 (")
    assert message.endswith("its shape is (4,)")
