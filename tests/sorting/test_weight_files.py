"""Networks of strangers.

Read as they are meant, with what was assumed; refused where it cannot be known.
"""

import math

import pytest
import torch
from folders import told
from safetensors.torch import save_file

from devsort.sorting import planted
from devsort.sorting.config import ModelConfig, TaskConfig
from devsort.sorting.heads import analyse_weights
from devsort.sorting.model import ATTN, forward, init_params, model_shape
from devsort.sorting.task import eval_batch
from devsort.sorting.weight_files import near_chance, read_network

TASK = TaskConfig(list_length=10, numbers=51, eval_lists=64)
LN1 = ("blocks.0.ln1.w", "blocks.0.ln1.b")
LN = (*LN1, "ln_final.w", "ln_final.b")


@pytest.fixture(scope="module")
def trained() -> dict[str, torch.Tensor]:
    """A network that sorts, whose layer norms have gains and biases of their own."""
    params = dict(planted.draw_network("split", TASK, ModelConfig(), seed=0, index=0)[0])
    generator = torch.Generator().manual_seed(0)
    for name in ("ln1", "ln_final"):
        key = f"blocks.0.{name}" if name == "ln1" else name
        gain = 1 + 0.3 * torch.rand(params[f"{key}.w"].shape, generator=generator)
        bias = 0.01 * torch.randn(gain.shape, generator=generator)
        for weight in [f"{ATTN}W_{m}" for m in "QKV"] if name == "ln1" else ["unembed.W_U"]:
            params[weight] = params[weight] / gain[:, None]
        params[f"{key}.w"], params[f"{key}.b"] = params[f"{key}.w"] * gain, bias
    return params


def fold(params):
    """As TransformerLens's LNPre: gains and biases go into the weights behind them."""
    w = dict(params)
    for m in "QKV":
        weight = w[f"{ATTN}W_{m}"]
        bias = torch.einsum("d,hde->he", w["blocks.0.ln1.b"], weight)
        w[f"{ATTN}b_{m}"] = w[f"{ATTN}b_{m}"] + bias
        w[f"{ATTN}W_{m}"] = weight * w["blocks.0.ln1.w"][:, None]
    w["unembed.b_U"] = w["unembed.b_U"] + w["ln_final.b"] @ w["unembed.W_U"]
    w["unembed.W_U"] = w["unembed.W_U"] * w["ln_final.w"][:, None]
    return {name: value for name, value in w.items() if name not in LN}


def saved(tmp_path, params):
    path = tmp_path / "w.safetensors"
    save_file({name: value.contiguous() for name, value in params.items()}, path)
    return path


def logits(params):
    return forward(params, eval_batch(TASK).tokens)


def test_norms_that_were_folded_into_the_weights_are_found(tmp_path, trained):
    network = read_network(saved(tmp_path, fold(trained)), TASK)
    assert network.norm == "folded" and network.shape.layer_norm
    torch.testing.assert_close(logits(network.params), logits(trained), rtol=1e-3, atol=1e-3)
    (note,) = network.notes
    assert note.startswith(
        "the file holds no layer norms: read as --norm folded, by its lower loss ("
    )


def without_norms(length: float):
    """A network without layer norm that sorts, the same for any length of what heads add up.

    At length 1 it sorts with a layer norm too: its tokens are orthonormal.
    """
    model = ModelConfig(layer_norm=False)
    w = dict(planted.draw_network("split", TASK, model, seed=0, index=0)[0])
    written, read = ("embed.W_E", f"{ATTN}W_O"), ("unembed.W_U", *(f"{ATTN}W_{m}" for m in "QKV"))
    return w | {n: w[n] * length for n in written} | {n: w[n] / length for n in read}


def test_a_network_without_layer_norm_is_found(tmp_path):
    params = without_norms(100.0)
    torch.testing.assert_close(logits(params), logits(without_norms(1.0)), rtol=1e-3, atol=1e-3)
    network = read_network(saved(tmp_path, params), TASK)
    assert network.norm == "none" and not network.shape.layer_norm
    told_of = "the file holds no layer norms: read as --norm none, by its lower loss ("
    assert network.notes[0].startswith(told_of)


UNSAID = {"it sorts with and without": 1.0, "it sorts with neither": 0.01}


@pytest.mark.parametrize("case", UNSAID)
def test_what_the_loss_does_not_tell_has_to_be_said(tmp_path, case):
    params = without_norms(1.0)
    params["unembed.W_U"] = params["unembed.W_U"] * UNSAID[case]
    path = saved(tmp_path, params)
    message = told(read_network, path, TASK)
    what = "holds no layer norms, and the loss does not show if it had any"
    assert message.startswith(f"{path} {what} (")
    assert message.endswith(" nats as none); give --norm folded or --norm none")
    for norm in ("folded", "none"):
        assert read_network(path, TASK, norm).norm == norm


@pytest.mark.parametrize("norm", ["folded", "none"])
def test_what_is_said_is_taken(tmp_path, trained, norm):
    folded = fold(trained)
    network = read_network(saved(tmp_path, folded), TASK, norm)
    assert (network.norm, network.notes) == (norm, ())
    assert network.shape.layer_norm == (norm == "folded")


def test_what_is_said_against_the_file_is_refused(tmp_path, trained):
    path, fix = saved(tmp_path, trained), "leave out --norm, or check the file"
    for norm in ("folded", "none"):
        what = f"{path} has gains and biases of layer norms, which contradicts --norm {norm}"
        message = f"{what}; {fix}"
        assert told(read_network, path, TASK, norm) == message
    path = saved(tmp_path, fold(trained))
    what = f"{path} has no gains and biases of layer norms, which contradicts --norm file"
    message = f"{what}; {fix}"
    assert told(read_network, path, TASK, "file") == message


def test_the_whole_case_is_named_and_not_called_unformed(tmp_path, trained):
    value = analyse_weights(saved(tmp_path, fold(trained)), 10, 51)
    assert value["norm"] == "folded" and "unformed" not in value["labels"]
    whole = analyse_weights(saved(tmp_path, trained), 10, 51)
    assert value["loss"] == pytest.approx(whole["loss"], rel=1e-4)
    assert value["labels"] == whole["labels"] and whole["norm"] == "file" and not whole["notes"]


UNKNOWN = {
    "norms of queries": {f"{ATTN}q_norm.w": torch.ones(48)},
    "a norm of embeddings": {"embed.ln.w": torch.ones(96), "embed.ln.b": torch.zeros(96)},
    "another bias": {"embed.b_E": torch.zeros(96)},
    "rotary positions": {f"{ATTN}rotary_sin": torch.zeros(21, 48)},
    "a mask that is not causal": {f"{ATTN}mask": torch.ones(21, 21, dtype=torch.bool)},
    "a window of attention": {f"{ATTN}mask": torch.ones(21, 21).tril().triu(-3).bool()},
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_weights_that_are_not_understood_are_refused(tmp_path, trained, case):
    path = saved(tmp_path, trained | UNKNOWN[case])
    names = ", ".join(UNKNOWN[case].keys() and sorted(UNKNOWN[case]))
    fix = "fold them into the others, or leave them out if they do nothing"
    message = f"{path} holds weights that are not understood: {names}; {fix}"
    assert told(read_network, path, TASK) == message


def test_norms_without_a_bias_are_refused(tmp_path, trained):
    params = {name: value for name, value in trained.items() if name not in (LN[1], LN[3])}
    path = saved(tmp_path, params)
    assert told(read_network, path, TASK) == (
        f"{path}: a gain without a bias, as in RMS norm: blocks.0.ln1 and ln_final; "
        "RMS norm is not supported; if it is layer norm, add a bias of zeros"
    )


HARMLESS = {
    "buffers of HookedTransformer": {
        f"{ATTN}mask": torch.ones(21, 21).tril().bool(),
        f"{ATTN}IGNORE": torch.tensor(-1e5),
    },
    "a longer mask": {f"{ATTN}mask": torch.ones(40, 40).tril().bool()},
}


@pytest.mark.parametrize("case", HARMLESS)
def test_buffers_that_change_nothing_are_left_out(tmp_path, trained, case):
    network = read_network(saved(tmp_path, trained | HARMLESS[case]), TASK)
    assert network.params.keys() == trained.keys() and network.notes == ()


def test_a_longer_context_is_cut_and_told(tmp_path, trained):
    positions = trained["pos_embed.W_pos"]
    longer = torch.cat([positions, torch.randn(20, positions.shape[1])])
    network = read_network(saved(tmp_path, trained | {"pos_embed.W_pos": longer}), TASK)
    assert torch.equal(network.params["pos_embed.W_pos"], positions)
    assert network.notes == ("the file has 41 positions, of which the first 21 are used",)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "model.", "module._orig_mod.net."])
def test_prefixes_are_taken_off(tmp_path, trained, prefix):
    path = saved(tmp_path, {prefix + name: value for name, value in trained.items()})
    network = read_network(path, TASK)
    assert all(torch.equal(network.params[name], value) for name, value in trained.items())


def shuffled(params):
    """SEP first instead of last, and the numbers from the largest to the smallest."""
    order = torch.arange(51, -1, -1)
    return params | {
        "embed.W_E": params["embed.W_E"][order],
        "unembed.W_U": params["unembed.W_U"][:, order],
        "unembed.b_U": params["unembed.b_U"][order],
    }


MISTAKEN = {
    "untrained": lambda params: init_params(model_shape(TASK, ModelConfig()), 0.8, 0),
    "tokens in another order": shuffled,
}


@pytest.mark.parametrize("case", MISTAKEN)
def test_a_loss_near_chance_is_told(tmp_path, trained, case):
    value = analyse_weights(saved(tmp_path, MISTAKEN[case](trained)), 10, 51)
    (note,) = value["notes"]
    assert note.startswith(f"the loss, {value['loss']:.3g} nats, is near or above that of a")
    assert note.endswith("and that SEP is the last token, 51")


def test_a_network_that_sorts_is_not_near_chance():
    chance = math.log(52)
    assert near_chance(0.7 * chance, TASK) == () and near_chance(0.8 * chance, TASK) != ()
    assert near_chance(math.nan, TASK) != ()


def test_weights_that_are_not_finite_are_refused(tmp_path, trained):
    broken = trained["unembed.b_U"].clone()
    broken[3] = torch.nan
    path = saved(tmp_path, trained | {"unembed.b_U": broken})
    message = f"{path}: unembed.b_U holds values that are not finite floats; "
    assert told(read_network, path, TASK).startswith(message)
