"""Data sets as people bring them."""

from collections import UserDict, namedtuple

import numpy as np
import pytest
import torch
from folders import told
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from devsort.sampling import SamplerConfig, sample
from devsort.sampling.data import as_data

X, Y = torch.arange(12.0).view(6, 2) / 12, torch.tensor([1.0, 0.0, -1.0, 2.0, 0.5, 1.5])
Pair = namedtuple("Pair", "x y")
FIX = "give tensors with the examples along the first axis, alone or in a tuple, list or dict"
SHORT = SamplerConfig(num_chains=2, num_draws=3, num_burnin_steps=0, batch_size=2)


class Rows(torch.utils.data.Dataset):
    """A data set that says how many it has, and gives one at a time."""

    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return {"x": X[i], "y": Y[i]}


class Stream(IterableDataset):
    """Examples that come one after the other."""

    def __iter__(self):
        return iter(X)


def dict_loss(params, batch):
    return (batch["x"] @ params["w"] - batch["y"]).square()


def pair_loss(params, batch):
    x, y = batch
    return dict_loss(params, {"x": x, "y": y})


def hugging_face():
    from datasets import Dataset

    return Dataset.from_dict({"x": X.tolist(), "y": Y.tolist()})


DATA = {
    "a dict": (dict_loss, lambda: {"x": X, "y": Y}),
    "a tokenizer's output": (dict_loss, lambda: UserDict({"x": X, "y": Y})),
    "a data set of dicts": (dict_loss, Rows),
    "a loader of dicts": (dict_loss, lambda: DataLoader(Rows(), batch_size=4, shuffle=True)),
    "a data set of Hugging Face": (dict_loss, hugging_face),
    "a tuple": (pair_loss, lambda: (X, Y)),
    "numpy": (pair_loss, lambda: (X.numpy(), Y.double().numpy())),
    "a named tuple": (lambda p, b: pair_loss(p, (b.x, b.y)), lambda: Pair(X, Y)),
    "a data set of tensors": (pair_loss, lambda: TensorDataset(X, Y)),
    "a loader of tensors": (pair_loss, lambda: DataLoader(TensorDataset(X, Y), batch_size=4)),
}


@pytest.mark.parametrize("kind", DATA)
def test_all_kinds_of_data_give_the_same_draws(kind):
    loss, make = DATA[kind]
    params = {"w": torch.tensor([1.0, -0.5])}
    expected = sample(pair_loss, params, (X, Y), SHORT)
    assert (sample(loss, params, make(), SHORT).loss == expected.loss).all()


def test_a_data_set_smaller_than_a_batch_is_drawn_from_with_replacement():
    big = SHORT.model_copy(update={"batch_size": 50})
    trace = sample(pair_loss, {"w": torch.tensor([1.0, -0.5])}, (X, Y), big)
    assert np.isfinite(trace.loss).all()


REFUSED = {
    "text": (["a", "b"], f"data contains a str; {FIX}"),
    "numbers": ([1, 2, 3], f"data contains a int; {FIX}"),
    "nothing": (torch.zeros(0, 2), "data has no rows; give at least one example"),
    "an empty data set": (
        TensorDataset(torch.zeros(0, 2)),
        "data has no rows; give at least one example",
    ),
    "an empty tuple": ((), f"data contains no tensor; {FIX}"),
    "a scalar": (torch.tensor(1.0), f"data contains a tensor without axes; {FIX}"),
    "text in numpy": (np.array(["a"]), f"data contains an array of type <U1; {FIX}"),
    "a stream": (Stream(), f"data is an iterable data set, which has no rows to draw from; {FIX}"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_data_is_refused_in_one_line(case):
    data, message = REFUSED[case]
    assert told(as_data, data) == message
