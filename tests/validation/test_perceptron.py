"""The truth of the perceptron has its own forward pass: it must be that of the module."""

import torch
from torch.nn import functional

from devsort.sampling.geometry import block_scales
from devsort.validation import perceptron


def test_the_forward_pass_is_that_of_the_module_and_has_lanes():
    net, (x, y) = perceptron.module()
    star = {name: value.detach().double() for name, value in net.named_parameters()}
    moved = {name: value + 0.1 * torch.randn_like(value) for name, value in star.items()}
    lanes = {name: torch.stack([star[name], moved[name]]) for name in star}
    found = perceptron._cross_entropy(lanes, x.double(), y)
    expected = [
        functional.cross_entropy(torch.func.functional_call(net.double(), w, (x.double(),)), y)
        for w in (star, moved)
    ]
    net.float()
    torch.testing.assert_close(found, torch.stack(expected))


def test_its_network_is_trained_and_not_a_toy():
    net, (x, y) = perceptron.module()
    right = float((net(x).argmax(1) == y).double().mean())
    assert 0.9 < right < 1.0  # a tenth of the labels are noise: neither chance nor all by heart


def test_its_scales_are_those_of_the_geometry():
    net, _ = perceptron.module()
    star = {name: value.detach() for name, value in net.named_parameters()}
    for name, scale in block_scales(star).items():
        own = perceptron._rms(star[name.replace("bias", "weight")])
        torch.testing.assert_close(scale, torch.full_like(scale, own))


def test_hmc_of_few_draws_is_near_the_sampler(monkeypatch):
    monkeypatch.setitem(perceptron.HMC, "draws", 40)
    few = perceptron.CONFIG.model_copy(update={"num_draws": 300, "num_burnin_steps": 300})
    monkeypatch.setattr(perceptron, "CONFIG", few)
    layer = perceptron.MIDDLE
    (value, error), measured = perceptron.truth(layer), perceptron.measured(layer)
    assert abs(measured.estimate - value) < 0.25 * value
    assert error < 0.15 * value and measured.se < 0.05 * value
    wrong = few.model_copy(update={"localization": 2.0})  # another posterior has another LLC
    monkeypatch.setattr(perceptron, "CONFIG", wrong)
    assert perceptron.measured(layer).estimate > measured.estimate + 0.1 * value
