"""The model against a loop oracle and against HookedTransformer.

Weights of strangers are checked.
"""

import math
import warnings
from dataclasses import astuple

import pytest
import torch
from oracles import LoopModel, random_params

from devsort.errors import UserError
from devsort.sorting.config import ModelConfig, TaskConfig
from devsort.sorting.model import (
    Shape,
    activations,
    forward,
    future_mask,
    infer_shape,
    init_params,
    layer_norm,
    losses,
    model_shape,
    param_shapes,
    unembed,
)
from devsort.sorting.task import train_batch

BUFFERS = {"blocks.0.attn.mask", "blocks.0.attn.IGNORE"}
BASELINE = model_shape(TaskConfig(), ModelConfig())


def small(
    heads: int = 2, norm: bool = True
) -> tuple[Shape, dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """A shape with all dimensions different.

    And random parameters, tokens and noisy targets of three lists.
    """
    task = TaskConfig(list_length=4, numbers=9, label_noise=0.5)
    shape = model_shape(task, ModelConfig(heads=heads, d_model=7, d_head=3, layer_norm=norm))
    batch = train_batch(task, 1, 3)
    return shape, random_params(param_shapes(shape), seed=heads), batch.tokens, batch.targets


every_model = pytest.mark.parametrize(
    ("heads", "norm"), [(h, n) for h in (1, 2, 3) for n in (True, False)], ids=lambda v: str(v)
)


@every_model
def test_logits_equal_the_loop_oracle(heads, norm):
    _, params, tokens, _ = small(heads, norm)
    expected = torch.tensor([LoopModel(params, 4).logits(row) for row in tokens.tolist()])
    assert forward(params, tokens).shape == (3, 4, 10)
    torch.testing.assert_close(forward(params, tokens), expected, rtol=0, atol=1e-5)
    double = {k: v.double() for k, v in params.items()}
    torch.testing.assert_close(forward(double, tokens), expected.double(), rtol=0, atol=1e-5)


@every_model
def test_activations_equal_the_loop_oracle(heads, norm):
    shape, params, tokens, _ = small(heads, norm)
    oracle, found = LoopModel(params, 4), activations(params, tokens)
    assert found.resid_pre.shape == (3, 4, 7)
    assert found.pattern.shape == (3, heads, 4, 8)
    assert found.head_out.shape == (3, heads, 4, 7)
    for i, row in enumerate(tokens.tolist()):
        torch.testing.assert_close(
            found.resid_pre[i], torch.tensor(oracle.resid_pre(row)[4:]), rtol=0, atol=1e-5
        )
        for h in range(shape.heads):
            pattern, out = (
                torch.tensor(oracle.pattern(row, h)),
                torch.tensor(oracle.head_out(row, h)),
            )
            torch.testing.assert_close(found.pattern[i, h], pattern, rtol=0, atol=1e-5)
            torch.testing.assert_close(found.head_out[i, h], out, rtol=0, atol=1e-5)


@every_model
def test_losses_equal_the_loop_oracle(heads, norm):
    _, params, tokens, targets = small(heads, norm)
    pairs = zip(tokens.tolist(), targets.tolist(), strict=True)
    expected = torch.tensor([LoopModel(params, 4).loss(*pair) for pair in pairs])
    torch.testing.assert_close(losses(params, tokens, targets), expected, rtol=1e-5, atol=0)


def test_the_baseline_has_49684_parameters():
    assert sum(math.prod(s) for s in param_shapes(BASELINE).values()) == 49_684
    assert (BASELINE.vocab, BASELINE.context) == (52, 21)


def test_without_weights_the_loss_is_that_of_a_uniform_guess():
    shape, params, tokens, targets = small()
    zeros = {name: torch.zeros(size) for name, size in param_shapes(shape).items()}
    torch.testing.assert_close(losses(zeros, tokens, targets), torch.full((3,), math.log(10)))
    assert set(params) == set(zeros)


def test_the_last_answer_is_never_an_input():
    _, params, tokens, _ = small()
    other = tokens.clone()
    other[:, -1] = 0
    assert torch.equal(forward(params, tokens), forward(params, tokens[:, :-1]))
    assert torch.equal(forward(params, tokens), forward(params, other))


@pytest.mark.parametrize("position", range(8))
def test_a_token_reaches_its_own_and_later_answers_only(position):
    _, params, tokens, _ = small()
    other = tokens.clone()
    other[:, position] = (other[:, position] + 1) % 9
    changed = (forward(params, tokens) != forward(params, other)).any(-1).any(0)  # (L,)
    assert changed.tolist() == [4 + i >= position for i in range(4)]


def test_future_mask_equals_its_definition():
    expected = [[j > 3 + i for j in range(6)] for i in range(3)]
    assert future_mask(3).tolist() == expected


def test_layer_norm_at_values_by_hand():
    # mean 2, variance 2: (x − 2) / sqrt(2 + 1e-5) · w + b
    x, w, b = (
        torch.tensor([0.0, 2.0, 2.0, 4.0]),
        torch.tensor([1.0, 2.0, 3.0, 4.0]),
        torch.tensor([0.0, 1.0, 0.0, 1.0]),
    )
    unit = 2 / math.sqrt(2 + 1e-5)
    torch.testing.assert_close(layer_norm(x, w, b), torch.tensor([-unit, 1.0, 0.0, 4 * unit + 1]))
    assert layer_norm(x, None, None) is x


def test_unembed_takes_any_leading_axes():
    shape, params, _, _ = small()
    resid = torch.randn(2, 3, 5, shape.d_model, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(unembed(params, resid)[1, 2], unembed(params, resid[1, 2]))


def test_initial_weights_have_their_distribution():
    params = init_params(BASELINE, init_scale=0.8, seed=0)
    assert {k: tuple(v.shape) for k, v in params.items()} == param_shapes(BASELINE)
    sigma, drawn = 0.8 / math.sqrt(96), []
    for name, value in params.items():
        leaf = name.rsplit(".", 1)[1]
        # of each parameter six standard errors, of all together four: 1.4 %
        if leaf.startswith("W_"):
            drawn.append(value.flatten())
            assert abs(value.mean()) < 6 * sigma / math.sqrt(value.numel()), name
            assert abs(value.std() / sigma - 1) < 6 / math.sqrt(2 * value.numel()), name
        else:
            assert (value == (1.0 if leaf == "w" else 0.0)).all(), name
    drawn = torch.cat(drawn)
    assert abs(drawn.std() / sigma - 1) < 4 / math.sqrt(2 * len(drawn))


def test_initial_weights_depend_on_seed_and_name_alone():
    torch.manual_seed(0)
    first = init_params(BASELINE, 0.8, seed=5)
    torch.manual_seed(1)
    again, other = init_params(BASELINE, 0.8, seed=5), init_params(BASELINE, 0.8, seed=6)
    four_heads = init_params(model_shape(TaskConfig(), ModelConfig(heads=4)), 0.8, seed=5)
    for name in first:
        assert torch.equal(first[name], again[name])
        if name.rsplit(".", 1)[1].startswith("W_"):
            assert not torch.equal(first[name], other[name])
    for name in ("embed.W_E", "pos_embed.W_pos", "unembed.W_U"):
        assert torch.equal(first[name], four_heads[name])
    assert not torch.equal(first["blocks.0.attn.W_Q"], first["blocks.0.attn.W_K"])


def hooked(shape: Shape):
    """HookedTransformer of the same shape; imported here because the import takes seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformer_lens import HookedTransformer, HookedTransformerConfig

        config = HookedTransformerConfig(
            n_layers=1,
            d_model=shape.d_model,
            n_ctx=shape.context,
            d_head=shape.d_head,
            n_heads=shape.heads,
            d_vocab=shape.vocab,
            attn_only=True,
            attention_dir="causal",
            normalization_type="LN" if shape.layer_norm else None,
            device="cpu",
            seed=0,
        )
        return HookedTransformer(config)


@pytest.mark.slow
@pytest.mark.parametrize("norm", [True, False], ids=["layer norm", "no layer norm"])
@pytest.mark.parametrize("heads", [1, 2, 4, 8])
def test_hooked_transformer_gives_the_same_logits_and_takes_the_same_state_dict(heads, norm):
    shape = model_shape(TaskConfig(), ModelConfig(heads=heads, d_head=96 // heads, layer_norm=norm))
    params = random_params(param_shapes(shape), seed=heads, scale=0.1)
    tokens = train_batch(TaskConfig(), 1, 32).tokens
    peer = hooked(shape)
    keys = peer.load_state_dict(params, strict=False)
    assert set(keys.missing_keys) <= BUFFERS
    assert keys.unexpected_keys == []
    with torch.no_grad():
        expected = peer(tokens[:, :20])[:, 10:]
    torch.testing.assert_close(forward(params, tokens), expected, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("norm", [True, False], ids=["layer norm", "no layer norm"])
@pytest.mark.parametrize("heads", [1, 8])
def test_hooked_transformer_state_dict_is_understood(heads, norm):
    shape = model_shape(TaskConfig(), ModelConfig(heads=heads, d_head=12, layer_norm=norm))
    peer = hooked(shape)
    theirs = peer.state_dict()
    assert infer_shape(theirs, 10, 51) == shape
    tokens = train_batch(TaskConfig(), 1, 8).tokens
    with torch.no_grad():
        torch.testing.assert_close(
            forward(theirs, tokens), peer(tokens[:, :20])[:, 10:], rtol=0, atol=1e-5
        )


@every_model
def test_shape_is_read_off_a_state_dict(heads, norm):
    shape, params, _, _ = small(heads, norm)
    assert astuple(infer_shape(params, 4, 9)) == astuple(shape)


W_Q = "blocks.0.attn.W_Q"
MISFITS = {
    "no attention": ({W_Q: None}, f"w.pt: {W_Q} is missing, expected (heads, d_model, d_head); "),
    "flat": (
        {W_Q: torch.zeros(7, 3)},
        f"w.pt: {W_Q} is of shape (7, 3), expected (heads, d_model, d_head); ",
    ),
    "empty": (
        {W_Q: torch.zeros(0, 7, 3)},
        f"w.pt: {W_Q} is of shape (0, 7, 3), expected (heads, d_model, d_head); ",
    ),
    "missing": ({"unembed.b_U": None}, "w.pt: unembed.b_U is missing; "),
    "size": (
        {"embed.W_E": torch.zeros(11, 7)},
        "w.pt: embed.W_E has shape (11, 7), expected (10, 7); ",
    ),
    "nan": (
        {"unembed.b_U": torch.full((10,), torch.nan)},
        "w.pt: unembed.b_U holds values that are not finite floats; ",
    ),
    "whole numbers": (
        {"unembed.b_U": torch.zeros(10).long()},
        "w.pt: unembed.b_U holds values that are not finite floats; ",
    ),
    "two layers": ({"blocks.1.attn.W_Q": torch.zeros(1)}, "w.pt: has more than one layer; "),
    "an MLP": ({"blocks.0.mlp.W_in": torch.zeros(7, 28)}, "w.pt: has an MLP; "),
    "half a norm": (
        {"blocks.0.ln1.w": None, "blocks.0.ln1.b": None},
        "w.pt: blocks.0.ln1.w is missing, blocks.0.ln1.b is missing; ",
    ),
    "all at once": (
        {"embed.W_E": None, "unembed.b_U": torch.zeros(3)},
        "w.pt: embed.W_E is missing, unembed.b_U has shape (3,), expected (10,); ",
    ),
    "too many to tell": (
        {f"blocks.0.attn.b_{m}": None for m in "QKVO"} | {"embed.W_E": None, "unembed.W_U": None},
        "w.pt: embed.W_E is missing, blocks.0.attn.b_Q is missing, blocks.0.attn.b_K is missing, "
        "blocks.0.attn.b_V is missing and 2 more; ",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_weights_that_do_not_fit_are_named(case):
    changes, message = MISFITS[case]
    params = {k: v for k, v in (small()[1] | changes).items() if v is not None}
    with pytest.raises(UserError) as e:
        infer_shape(params, 4, 9, where="w.pt")
    fix = "check the file, list length and numbers"
    if W_Q in changes:
        fix = "give a one-layer HookedTransformer state dict"
    if case in ("two layers", "an MLP"):
        fix = "give a network of one layer without an MLP"
    assert str(e.value) == message + fix


def test_a_wrong_list_length_is_told_by_the_positions():
    with pytest.raises(UserError) as e:
        infer_shape(init_params(BASELINE, 0.8, 0), 9, 51)
    assert e.value.what == "weights: pos_embed.W_pos has shape (21, 96), expected (19, 96)"
