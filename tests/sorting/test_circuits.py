"""Circuits against loops, known spectra, and what the softmaxes cannot see."""

import math

import numpy as np
import pytest
import torch

from devsort.rng import stream, torch_stream
from devsort.sorting import circuits
from devsort.sorting.config import ModelConfig, TaskConfig
from devsort.sorting.model import ATTN, LN_EPS, init_params, model_shape
from devsort.sorting.task import draw_lists

TASK = TaskConfig(list_length=3, numbers=6)


def network(layer_norm=True, heads=2):
    """A tiny network whose biases and gains are not at their initial values."""
    shape = model_shape(TASK, ModelConfig(heads=heads, d_model=10, d_head=4, layer_norm=layer_norm))
    params = init_params(shape, 3.0, 1)
    g = torch_stream(0, "test")
    return {k: v + 0.3 * torch.randn(v.shape, generator=g) for k, v in params.items()}, shape


def slow_norm(x, w, b):
    centred = [float(v) - float(x.mean()) for v in x]
    scale = math.sqrt(sum(c * c for c in centred) / len(centred) + LN_EPS)
    return torch.tensor([c / scale * float(w[i]) + float(b[i]) for i, c in enumerate(centred)])


def slow_token(params, token, position):
    resid = params["embed.W_E"][token] + params["pos_embed.W_pos"][position]
    if "blocks.0.ln1.w" not in params:
        return resid
    return slow_norm(resid, params["blocks.0.ln1.w"], params["blocks.0.ln1.b"])


@pytest.mark.parametrize("layer_norm", [True, False])
def test_ov_is_the_loop(layer_norm):
    params, shape = network(layer_norm)
    gain = params["ln_final.w"] if layer_norm else torch.ones(shape.d_model)
    for h in range(shape.heads):
        slow = torch.zeros(6, 6)
        for s in range(6):
            y = sum(slow_token(params, s, j) for j in range(3)) / 3
            out = y @ params[ATTN + "W_V"][h] @ params[ATTN + "W_O"][h]
            out = out - out.mean() if layer_norm else out
            slow[s] = (out * gain) @ params["unembed.W_U"][:, :6]
        slow = slow - slow.mean(1, keepdim=True)
        slow = slow - slow.mean(0, keepdim=True)
        torch.testing.assert_close(circuits.ov(params, shape)[h], slow, atol=2e-4, rtol=1e-4)


def test_qk_is_the_mean_score_over_positions():
    params, shape = network()
    weight = circuits.query_positions(shape)
    for h in range(shape.heads):
        slow = torch.zeros(7, 6)
        for q in range(7):
            for i in range(3):
                query = (
                    slow_token(params, q, 3 + i) @ params[ATTN + "W_Q"][h] + params[ATTN + "b_Q"][h]
                )
                for k in range(6):
                    for j in range(3):
                        key = (
                            slow_token(params, k, j) @ params[ATTN + "W_K"][h]
                            + params[ATTN + "b_K"][h]
                        )
                        slow[q, k] += weight[q, i] / 3 * float(query @ key) / 2  # sqrt(d_head) = 2
        asks = weight.sum(1) > 0
        slow = slow - slow.mean(1, keepdim=True)
        torch.testing.assert_close(
            circuits.qk(params, shape)[h][asks], slow[asks], atol=5e-4, rtol=1e-4
        )


def test_the_diagonal_of_ov_is_the_mean_copying_effect():
    params, shape = network()
    diagonal = circuits.ov(params, shape).diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(
        circuits.copying(params, shape).mean(2), diagonal, atol=1e-4, rtol=1e-4
    )


def test_ov_does_not_see_a_constant_in_the_values():
    params, shape = network()
    moved = dict(params)
    moved["blocks.0.ln1.b"] = params["blocks.0.ln1.b"] + 1.0  # the same vector for every token
    torch.testing.assert_close(
        circuits.ov(moved, shape), circuits.ov(params, shape), atol=1e-3, rtol=1e-4
    )


def test_query_positions_are_those_of_drawn_lists():
    shape = model_shape(TASK, ModelConfig())
    ordered = np.sort(draw_lists(stream(0, "test"), 60_000, TASK), axis=1)
    seen = np.zeros((7, 3))
    for position in (1, 2):
        seen[:6, position] = np.bincount(ordered[:, position - 1], minlength=6)
    seen[6, 0] = 1
    seen /= np.maximum(seen.sum(1, keepdims=True), 1)
    # 5 standard errors of the rarest number
    assert np.abs(seen - circuits.query_positions(shape)).max() < 0.02


def test_the_largest_number_never_asks():
    weight = circuits.query_positions(model_shape(TASK, ModelConfig()))
    assert weight[5].sum() == 0
    np.testing.assert_allclose(weight[[0, 1, 2, 3, 4, 6]].sum(1), 1)


@pytest.mark.parametrize(
    ("spectrum", "rank"),
    [([1, 1, 1, 1], 4.0), ([5, 0, 0], 1.0), ([2, 1, 1], math.exp(1.5 * math.log(2)))],
)
def test_effective_rank_of_known_spectra(spectrum, rank):
    assert circuits.effective_rank(
        torch.tensor(spectrum, dtype=torch.float64)
    ).item() == pytest.approx(rank, rel=1e-9)


def test_ranks_of_planted_spectra():
    params, _ = network()
    W = torch.zeros(2, 10, 4)
    W[:, :4] = torch.eye(4)
    params |= {
        ATTN + "W_V": W,
        ATTN + "W_O": W.mT.clone(),
        ATTN + "W_Q": W,
        ATTN + "W_K": W * torch.tensor([1, 1, 0, 0]),
    }
    assert circuits.ov_rank(params).tolist() == pytest.approx([4, 4], rel=1e-5)
    assert circuits.qk_rank(params).tolist() == pytest.approx([2, 2], rel=1e-5)
    cloud = torch.cat([torch.eye(10)[:3], -torch.eye(10)[:3]]) + 7.0
    assert circuits.residual_rank(cloud[:, None]).item() == pytest.approx(3, abs=0.05)


def test_norms():
    params, _ = network()
    head = sum(params[f"{ATTN}W_{m}"][1].square().sum() for m in "QKVO").sqrt()
    assert circuits.head_norms(params)[1].item() == pytest.approx(head.item(), rel=1e-6)
    total = math.sqrt(sum(float(p.double().square().sum()) for p in params.values()))
    buffers = {"blocks.0.attn.mask": torch.ones(7, 7), "blocks.0.attn.IGNORE": torch.tensor(-1e5)}
    assert circuits.weight_norm(params | buffers) == pytest.approx(total, rel=1e-6)


def test_ranks_do_not_depend_on_the_scale_of_weights():
    generator = torch.Generator().manual_seed(0)
    params = {ATTN + f"W_{m}": torch.randn(2, 6, 3, generator=generator) for m in "QKV"}
    params[ATTN + "W_O"] = torch.randn(2, 3, 6, generator=generator)
    huge = {name: weight * 1e30 for name, weight in params.items()}
    assert circuits.ov_rank(huge).tolist() == pytest.approx(
        circuits.ov_rank(params).tolist(), rel=1e-5
    )
    assert circuits.qk_rank(huge).tolist() == pytest.approx(
        circuits.qk_rank(params).tolist(), rel=1e-5
    )
    cloud = torch.randn(20, 1, 6, generator=generator)
    assert circuits.residual_rank(1e30 * cloud).item() == pytest.approx(
        circuits.residual_rank(cloud).item(), rel=1e-4
    )


def test_a_weight_that_is_not_finite_has_no_rank_and_leaves_the_other_head_alone():
    params = {ATTN + f"W_{m}": torch.eye(6)[:, :3].repeat(2, 1, 1) for m in "QKV"}
    params[ATTN + "W_O"] = torch.eye(6)[:3].repeat(2, 1, 1)
    for name in ("W_Q", "W_V"):
        params[ATTN + name][0, 0, 0] = torch.inf
    for rank in (circuits.ov_rank(params), circuits.qk_rank(params)):
        assert rank[0].isnan()
        assert rank[1].item() == pytest.approx(3, rel=1e-5)
    assert circuits.residual_rank(torch.full((4, 1, 6), torch.nan)).isnan()
