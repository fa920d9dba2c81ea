"""Checkpoints from folders, mappings and functions, and what is refused."""

import json

import pytest
import torch
from folders import told
from safetensors.torch import save_file
from torch import nn

from devsort.networks.sources import source_of, step_of
from devsort.networks.states import fitted
from devsort.sampling import module_loss

MAP = "give a mapping of steps to files, {100: 'a.pt', …}"


def state(value: float) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((1, 2), value), "bias": torch.zeros(1)}


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("step-100", 100),
        ("step_000100", 100),
        ("epoch=3-step=100", 100),
        ("checkpoint-100", 100),
        ("gpt2-checkpoint-100", 100),
        ("resnet18-step100", 100),
        ("ckpt_100", 100),
        ("step100-model", 100),
        ("step-7.bf16", 7),
        ("000100", 100),
        ("last", None),
    ],
)
def test_the_step_is_taken_from_the_name(name, step):
    assert step_of(name) == step


@pytest.mark.parametrize("name", ["epoch-3-loss-0.25", "resnet18_100"])
def test_a_name_with_several_numbers_is_refused(name):
    what = f"{name} contains several numbers, and which is the step is unclear"
    assert told(step_of, name) == f"{what}; {MAP}"


@pytest.mark.parametrize(
    ("name", "rest", "digits"),
    [("step-1e5", "e5", 1), ("step=1,000", ",000", 1), ("step_2.5", ".5", 2), ("10k", "k", 10)],
)
def test_a_step_that_is_no_whole_number_is_refused(name, rest, digits):
    what = f"{name}: {rest!r} follows the number {digits}, which may not be the whole step"
    assert told(step_of, name) == f"{what}; {MAP}"


def test_files_of_all_kinds_are_read_in_order_of_step(tmp_path):
    save_file(state(20), tmp_path / "step-20.safetensors")
    torch.save(state(3), tmp_path / "step-3.pt")
    torch.save({"state_dict": state(100), "epoch": 7}, tmp_path / "epoch=7-step=100.ckpt")
    torch.save(state(0), tmp_path / "last.ckpt")
    hugging_face = tmp_path / "checkpoint-1000"
    hugging_face.mkdir()
    torch.save({"weight": state(1000)["weight"]}, hugging_face / "pytorch_model-00001-of-00002.bin")
    torch.save({"bias": state(1000)["bias"]}, hugging_face / "pytorch_model-00002-of-00002.bin")
    shards = {
        name: f"pytorch_model-0000{i}-of-00002.bin" for i, name in ((1, "weight"), (2, "bias"))
    }
    (hugging_face / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": shards}))
    (tmp_path / "notes.txt").write_text("not a checkpoint")
    source = source_of(tmp_path)
    assert source.steps == (3, 20, 100, 1000)
    assert [float(source.load(s)["weight"][0, 0]) for s in source.steps] == [3, 20, 100, 1000]
    assert set(source.load(1000)) == {"weight", "bias"}
    assert source.notes == ("left out, with no step in their names: last.ckpt",)
    before = source.identity()
    assert source_of(str(tmp_path)).identity() == before
    torch.save(state(4), tmp_path / "step-3.pt")
    assert source_of(tmp_path).identity() != before


def test_mappings_and_functions_give_the_same_checkpoints(tmp_path):
    states = {30: state(30), 4: state(4)}
    for step, tensors in states.items():
        torch.save(tensors, tmp_path / f"{'ab'[step == 4]}.pt")
    module = nn.Linear(2, 1)
    module.load_state_dict(states[4])
    for given in (
        states,
        (list(states), states.__getitem__),
        {30: states[30], 4: module},
        {30: tmp_path / "a.pt", 4: str(tmp_path / "b.pt")},
    ):
        source = source_of(given)
        assert source.steps == (4, 30)
        assert torch.equal(source.load(4)["weight"], states[4]["weight"])


def test_what_is_no_source_is_refused(tmp_path):
    fix = "give a folder, {step: state dict}, or (steps, function)"
    assert told(source_of, 3) == f"checkpoints are given as a int; {fix}"
    assert told(source_of, {}) == "there are no checkpoints; give at least one"
    missing = tmp_path / "nowhere"
    what = f"{missing} is not a folder; give the folder that contains the checkpoints"
    assert told(source_of, missing) == what
    torch.save(state(1), tmp_path / "final.pt")
    what = f"{tmp_path} has no weight file with a step in its name"
    assert told(source_of, tmp_path) == f"{what}; name them as in step-100.safetensors, or {MAP}"
    torch.save(state(1), tmp_path / "step-1.pt")
    torch.save(state(1), tmp_path / "step-01.pth")
    what = "step-01.pth and step-1.pt are both step 1"
    assert told(source_of, tmp_path) == f"{what}; {MAP}"
    fix = "give a state dict, a module or a file for each step"
    what = "the checkpoint of step 1 cannot be loaded (ZeroDivisionError: division by zero)"
    assert told(source_of(([1], lambda step: step / 0)).load, 1) == f"{what}; {fix}"
    what = "the checkpoint of step 1 does not hold a plain mapping of names to tensors"
    for value in (None, 3, [torch.zeros(1)], {}, {"epoch": 3}):
        assert told(source_of({1: value}).load, 1) == f"{what}; {fix}"
    for steps in ((1.5, 2), (-1, 2), (True, 2), ("step-1", 2), (float("nan"), 2), (1, 1)):
        assert "are not distinct whole numbers from 0; give each" in told(source_of, (steps, state))


def test_a_function_may_load_every_step_into_the_same_module():
    module = nn.Linear(2, 1)

    def load(step):
        module.load_state_dict(state(step))
        return module

    source = source_of(([4, 30], load))
    first = source.load(4)
    assert float(source.load(30)["weight"][0, 0]) == 30 and float(first["weight"][0, 0]) == 4


def test_references_to_one_network_are_no_checkpoints():
    """`state_dict()` gives references: kept without a copy, all of them are the last one."""
    module = nn.Linear(2, 1)
    what = "the checkpoints of steps 4 and 30 are the same memory"
    fix = "copy each when it is saved, {n: t.clone() for n, t in model.state_dict().items()}"
    for same in (module.state_dict(), module):
        assert told(source_of, {4: same, 30: module}) == f"{what}; {fix}"
    shared = module.state_dict()["bias"]  # a part that does not change may be shared
    states = {step: {**state(step), "bias": shared} for step in (4, 30)}
    assert source_of(states).steps == (4, 30)


def test_what_a_script_saves_beside_the_weights_is_passed_over_in_memory_too(tmp_path):
    saved = {"model": state(4), "optimizer": {"state": {}, "param_groups": []}, "step": 4}
    torch.save(saved, tmp_path / "a.pt")
    for given in (saved, tmp_path / "a.pt", {n: t.numpy() for n, t in state(4).items()}):
        source = source_of(([4], lambda step, given=given: given))
        assert torch.equal(source.load(4)["weight"], state(4)["weight"])
    several = {"model": state(4), "ema": state(5)}
    what = "the checkpoint of step 4 holds several state dicts (model, ema)"
    assert told(source_of({4: several}).load, 4) == f"{what}; save the one that is meant"


# ---- state dicts fitted to a module


class Tied(nn.Module):
    """Weights under two names, and statistics of a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(2, 2, bias=False), nn.Linear(2, 2)
        self.decode.weight = self.encode.weight
        self.norm = nn.BatchNorm1d(2)


LOSS = module_loss(Tied().eval(), lambda model, batch: model(batch))[0]


def tied(value: float = 2.0) -> dict[str, torch.Tensor]:
    found = {name: torch.full(t.shape, value) for name, t in Tied().state_dict().items()}
    return {**found, "norm.num_batches_tracked": torch.tensor(5)}


@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "_orig_mod.", "module._orig_mod.", "model.", "net.inner.", "model._orig_mod."],
)
def test_wrappers_names_are_taken_off(prefix):
    found = fitted({prefix + name: t for name, t in tied().items()}, LOSS, "the checkpoint")
    assert set(found) == {*LOSS.params, *LOSS.buffers}
    assert all((t == 2).all() for name, t in found.items() if "tracked" not in name)


def test_a_part_of_the_network_may_be_called_as_a_wrapper():
    net = nn.ModuleDict({"module": nn.Linear(2, 1), "norm": nn.LayerNorm(1)})
    loss = module_loss(net, lambda model, batch: model["norm"](model["module"](batch)))[0]
    assert set(fitted(net.state_dict(), loss, "c")) == set(loss.params)
    wrapped = {f"module.{name}": t for name, t in net.state_dict().items()}
    assert set(fitted(wrapped, loss, "c")) == set(loss.params)


@pytest.mark.parametrize("left_out", ["encode.weight", "decode.weight"])
def test_a_tied_weight_may_come_under_either_name(left_out):
    state = {name: t for name, t in tied().items() if name != left_out}
    assert (fitted(state, LOSS, "the checkpoint")["encode.weight"] == 2).all()


def test_a_plain_function_is_handed_the_tensors_as_they_are():
    found = fitted({"module.w": torch.zeros(1)}, lambda p, b: p["w"], "the checkpoint")
    assert set(found) == {"w"}


def without(name: str) -> dict[str, torch.Tensor]:
    return {n: t for n, t in tied().items() if n != name}


SAME = "give checkpoints of the same module"
REFUSED = {
    "a parameter is missing": (without("decode.bias"), f"c does not contain decode.bias; {SAME}"),
    "a statistic is missing": (
        without("norm.running_var"),
        f"c does not contain norm.running_var; {SAME}",
    ),
    "a tensor too many": (
        {**tied(), "extra.bias": torch.zeros(2)},
        f"c contains extra.bias, which the module does not have; {SAME}, or leave these out, with "
        "checkpoints=(steps, load)",
    ),
    "another network beside it": (
        {**{f"model.{n}": t for n, t in tied().items()}, "critic.weight": torch.zeros(2)},
        f"c contains critic.weight, which the module does not have; {SAME}, or leave these out, "
        "with checkpoints=(steps, load)",
    ),
    "another shape": (
        {**tied(), "decode.bias": torch.zeros(3)},
        f"c: decode.bias has shape (3,), in the module it has (2,); {SAME}",
    ),
    "a weight that is not finite": (
        {**tied(), "decode.bias": torch.tensor([0, torch.nan])},
        "c: decode.bias holds values that are not finite; "
        "give the weights of a step before training diverged",
    ),
    "tied weights that differ": (
        {**tied(), "decode.weight": torch.zeros(2, 2)},
        "c: encode.weight and decode.weight are one tensor in the module, but differ here; "
        f"untie them in the module, or {SAME}",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_state_dict_of_another_module_is_refused(case):
    given, message = REFUSED[case]
    assert told(fitted, given, LOSS, "c") == message
