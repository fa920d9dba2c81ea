"""The networks of the page: rounded, checked, and described by what the oracles compute."""

import numpy as np
import pytest
import torch
from oracles import LoopModel
from pages import unpacked

from devsort.errors import UserError
from devsort.sorting.explorer.networks import change, pack_networks, rounded, typical
from devsort.sorting.model import init_params, model_shape
from devsort.sorting.run import open_run
from devsort.sorting.task import eval_batch


@pytest.fixture
def network(tiny_config):
    shape = model_shape(tiny_config.task, tiny_config.model)
    return init_params(shape, 2.0, 3), shape


def test_weights_are_those_of_half_precision(network):
    params, _ = network
    for name, value in rounded(params, "").items():
        np.testing.assert_array_equal(value.numpy(), params[name].numpy().astype(np.float16))


def test_a_weight_beyond_half_precision_is_refused(network):
    params, _ = network
    params["unembed.b_U"][0] = 70_000
    with pytest.raises(UserError) as refused:
        rounded(params, "step-9")
    told = "explore another run: a weight is beyond 65,504, or not finite"
    assert str(refused.value) == f"step-9 does not fit half precision; {told}"


def test_rounding_is_measured_against_the_trained_network(network, tiny_config):
    params, _ = network
    moved = {name: value.clone() for name, value in params.items()}
    moved["unembed.b_U"][2] += 1.0
    batch = eval_batch(tiny_config.task, 4)
    loss, probability = change(params, moved, batch)
    models = [LoopModel(p, tiny_config.task.list_length) for p in (params, moved)]
    chances = [
        torch.tensor([m.logits(t) for t in batch.tokens.tolist()]).softmax(-1) for m in models
    ]
    right = [c.gather(-1, batch.targets[..., None]).log().mean() for c in chances]
    assert loss == pytest.approx(float((right[0] - right[1]).abs()), abs=1e-5)
    assert probability == pytest.approx(float((chances[0] - chances[1]).abs().max()), abs=1e-5)


def test_the_mean_output_is_that_of_the_loops(network, tiny_config):
    params, shape = network
    batch = eval_batch(tiny_config.task, 5)
    mean, _ = typical(params, shape, batch)
    model = LoopModel(params, shape.list_length)
    for head in range(shape.heads):
        outputs = torch.tensor([model.head_out(t, head) for t in batch.tokens.tolist()])
        np.testing.assert_allclose(mean[head], outputs.mean((0, 1)), atol=1e-5)


def test_a_run_is_packed_at_its_sampled_steps(smoke):
    run = open_run(smoke.path)
    steps = sorted({row["step"] for row in smoke.values["llc"]["trajectory"]})
    found = pack_networks(run, steps)
    assert len(found["networks"]) == len(steps)
    assert max(found["rounding"]["loss_change"]) < 0.01
    shape = model_shape(run.config.task, run.config.model)
    for pack in found["networks"]:
        assert unpacked(pack["weights"]["embed.W_E"]).shape == (shape.vocab, shape.d_model)
        assert unpacked(pack["mean_out"]).shape == (shape.heads, shape.d_model)
        assert pack["sigma"] > 0
