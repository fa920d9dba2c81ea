"""Measures at each answer against a loop that runs the network list by list."""

import torch
import torch.nn.functional as F

from devsort.rng import torch_stream
from devsort.sorting import circuits
from devsort.sorting.config import ModelConfig, TaskConfig
from devsort.sorting.heads import measures
from devsort.sorting.heads.suppression import written
from devsort.sorting.model import ATTN, activations, forward, init_params, model_shape, unembed
from devsort.sorting.task import Batch, eval_batch

TASK = TaskConfig(list_length=3, numbers=6, eval_lists=300)  # more lists than CHUNK
SHAPE = model_shape(TASK, ModelConfig(heads=2, d_model=10, d_head=4))
BATCH = eval_batch(TASK)


def network():
    g = torch_stream(0, "test")
    return {
        k: v + 0.2 * torch.randn(v.shape, generator=g)
        for k, v in init_params(SHAPE, 3.0, 1).items()
    }


PARAMS = network()
FOUND = measures.measure(PARAMS, SHAPE, BATCH)


def logits_without(list_index, replacement, head):
    """Logits of one list with a head's output replaced by a (L, D) tensor."""
    act = activations(PARAMS, BATCH.tokens[list_index : list_index + 1])
    outputs = act.head_out[0].clone()
    outputs[head] = replacement
    return unembed(PARAMS, act.resid_pre[0] + outputs.sum(0) + PARAMS[ATTN + "b_O"])


def test_loss_and_correctness_are_the_models():
    logits = forward(PARAMS, BATCH.tokens)
    expected = F.cross_entropy(
        logits.flatten(0, 1), BATCH.targets.flatten(), reduction="none"
    ).view(-1, 3)
    torch.testing.assert_close(FOUND.loss, expected)
    assert torch.equal(FOUND.correct, logits.argmax(-1) == BATCH.targets)


def test_attention_is_that_to_the_answer_in_the_list():
    pattern = activations(PARAMS, BATCH.tokens).pattern
    for b in range(0, 300, 37):
        for i in range(3):
            j = BATCH.tokens[b, :3].tolist().index(int(BATCH.targets[b, i]))
            torch.testing.assert_close(FOUND.by_head["attention"][b, :, i], pattern[b, :, i, j])


def test_mean_ablation_is_the_loop():
    everything = activations(PARAMS, BATCH.tokens).head_out
    for b in range(0, 300, 53):
        for h in range(2):
            mean = everything[:, h].flatten(0, 1).mean(0).expand(3, -1)
            loss = F.cross_entropy(logits_without(b, mean, h), BATCH.targets[b], reduction="none")
            torch.testing.assert_close(
                FOUND.by_head["loss_increase"][b, h], loss - FOUND.loss[b], atol=1e-4, rtol=1e-4
            )


def test_suppression_is_taken_away_number_by_number():
    """min(x · U_s, 0) U_s / |U_s|² for each number s of the list, by a loop; and the answer's."""
    act = activations(PARAMS, BATCH.tokens)
    resid = measures.residual(PARAMS, act)
    u = circuits.folded_unembedding(PARAMS, SHAPE)
    table = circuits.copying(PARAMS, SHAPE)
    for b, i, h in ((0, 0, 0), (7, 1, 1), (299, 2, 0)):
        parts = {}
        for j, s in enumerate(BATCH.tokens[b, :3].tolist()):
            low = min(float(act.pattern[b, h, i, j] * table[h, s, j]), 0.0)
            parts[s] = low * u[:, s] / u[:, s].square().sum()
        away = unembed(PARAMS, resid[b, i] - sum(parts.values()))
        rise = F.cross_entropy(away, BATCH.targets[b, i]) - FOUND.loss[b, i]
        assert abs(rise - FOUND.by_head["suppression_gain"][b, h, i]) < 1e-4
        found = written(PARAMS, SHAPE, act.pattern[:, h], BATCH, h)
        torch.testing.assert_close(found.own[b, i], parts[int(BATCH.targets[b, i])])
        torch.testing.assert_close(found.whole[b, i], sum(parts.values()), atol=1e-6, rtol=1e-4)


def test_resample_ablation_takes_another_lists_output():
    everything = activations(PARAMS, BATCH.tokens).head_out
    for b in (1, 100, 255, 257):  # the first list of a chunk takes that chunk's last
        for h in range(2):
            loss = F.cross_entropy(
                logits_without(b, everything[b - 1, h], h), BATCH.targets[b], reduction="none"
            )
            found = FOUND.by_head["loss_increase_resample"][b, h]
            torch.testing.assert_close(found, loss - FOUND.loss[b], atol=1e-4, rtol=1e-4)


def test_direct_effects_and_the_rest_add_up_to_the_logit():
    """With the scale fixed the logit is linear in the heads' outputs.

    Each head's direct effect is its term.
    """
    act = activations(PARAMS, BATCH.tokens)
    resid = measures.residual(PARAMS, act)
    unembedding = PARAMS["ln_final.w"][:, None] * PARAMS["unembed.W_U"][:, :6]
    rest = resid - (act.head_out - act.head_out.mean((0, 2), keepdim=True)).sum(1)
    centred = (rest - rest.mean(-1, keepdim=True)) / measures.scale(resid, SHAPE)[..., None]
    base = (
        centred @ unembedding
        + PARAMS["ln_final.b"] @ PARAMS["unembed.W_U"][:, :6]
        + PARAMS["unembed.b_U"][:6]
    )
    logits = forward(PARAMS, BATCH.tokens)[..., :6]
    moved = (logits - base) - (logits - base).mean(-1, keepdim=True)
    at = moved.gather(-1, BATCH.targets[..., None])[..., 0]
    torch.testing.assert_close(FOUND.by_head["direct_effect"].sum(1), at, atol=2e-3, rtol=1e-3)


def test_the_copy_effect_is_the_change_in_value_at_the_answers_position():
    """Attention · (value there − mean value) W_O U / σ, by hand."""
    act = activations(PARAMS, BATCH.tokens)
    y = F.layer_norm(
        PARAMS["embed.W_E"][:6, None] + PARAMS["pos_embed.W_pos"][None, :3],
        (10,), PARAMS["blocks.0.ln1.w"], PARAMS["blocks.0.ln1.b"], 1e-5,
    )  # fmt: skip
    sigma = measures.scale(measures.residual(PARAMS, act), SHAPE)
    u = PARAMS["ln_final.w"][:, None] * PARAMS["unembed.W_U"][:, :6]
    for b, i, h in ((0, 0, 0), (7, 1, 1), (299, 2, 0)):
        t = int(BATCH.targets[b, i])
        j = BATCH.tokens[b, :3].tolist().index(t)
        value = (y - y.mean((0, 1))) @ PARAMS[ATTN + "W_V"][h] @ PARAMS[ATTN + "W_O"][h]
        value = value[t, j] - value[t, j].mean()
        logit = value @ (u[:, t] - u.mean(1)) / sigma[b, i] * act.pattern[b, h, i, j]
        assert abs(logit - FOUND.by_head["copy_effect"][b, h, i]) < 1e-3


def test_without_layer_norm_the_scale_is_one():
    shape = model_shape(TASK, ModelConfig(heads=1, d_model=10, d_head=4, layer_norm=False))
    assert torch.equal(
        measures.scale(torch.randn(2, 3, 10, generator=torch_stream(0, "x")), shape),
        torch.ones(2, 3),
    )


def test_noisy_targets_change_the_loss_but_not_what_is_looked_at():
    noisy = Batch(BATCH.tokens, (BATCH.targets + 1) % 6)
    found = measures.measure(PARAMS, SHAPE, noisy)
    assert torch.equal(found.by_head["attention"], FOUND.by_head["attention"])
    assert not torch.allclose(found.loss, FOUND.loss)
