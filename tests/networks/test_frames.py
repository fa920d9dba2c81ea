"""Results as tables."""

import numpy as np
import xarray as xr
from folders import told

from devsort.networks.frames import to_dataframe


def test_stages_are_a_row_each_with_their_intervals_in_two_columns():
    stages = [
        {
            "name": "a",
            "from": 1.0,
            "from_ci95": [1, 1],
            "to": 9.0,
            "to_ci95": [8, 10],
            "loss": None,
            "names": {"a": 1.0},
            "evidence": [{"rule": "the LLC rises"}],
        }
    ]
    table = to_dataframe({"stages": stages, "boundaries": []})
    assert table.to_dict("records") == [
        {
            "name": "a",
            "from": 1.0,
            "from_low": 1,
            "from_high": 1,
            "to": 9.0,
            "to_low": 8,
            "to_high": 10,
            "loss": None,
        }
    ]


def test_heads_are_a_row_a_checkpoint():
    data = {
        "loss": ("checkpoint", [2.0, 1.0]),
        "scores": (("checkpoint", "score"), [[0.1, 0.2], [0.3, 0.4]]),
        "labels": (("checkpoint", "label"), [[True], [False]]),
        "ov_rank": (("checkpoint", "head"), [[5.0, 6.0], [7.0, 8.0]]),
        "draws": (("checkpoint", "draw"), np.zeros((2, 5))),
    }
    names = {"checkpoint": [1, 10], "score": ["split", "overlap"], "label": ["unformed"]}
    table = to_dataframe(xr.Dataset(data, names))
    scores = ["split", "overlap", "unformed"]
    assert list(table.columns) == ["step", "loss", *scores, "ov_rank_0", "ov_rank_1"]
    assert table.iloc[1].tolist() == [10, 1.0, 0.3, 0.4, False, 7.0, 8.0]


def test_what_is_no_result_is_refused():
    message = "a list cannot be made into a table; give a trajectory, heads or stages"
    assert told(to_dataframe, []) == message
