"""Known answers on a trained perceptron, from Hamiltonian Monte Carlo on all of its data.

A network as users have them: `torch.nn.Linear` layers, GELU, classes from a noisy teacher, Adam.
Nothing of the truth is shared with the sampler: it has its own forward pass in float64, its own
scales of the blocks (the RMS of a weight, for its bias too), no minibatches, and a Metropolis test
in place of a small step.
"""

from functools import cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from devsort.llc import estimate
from devsort.rng import stream
from devsort.sampling import module_loss, sample
from devsort.sampling.config import SamplerConfig
from devsort.validation.case import Case
from devsort.validation.measurements import Measured
from devsort.validation.quadrature import Truth
from devsort.validation.reference import Target, hmc

WIDTHS, EXAMPLES, FLIPPED = (8, 16, 16, 3), 512, 0.1
RATE, DECAY, STEPS = 1e-2, 6e-3, 400  # of Adam, on all examples
HMC = {"lr": 4.5e-2, "steps": 7, "draws": 100, "chains": 16}
LAYERS = (0, 2, 4)  # places of the linear layers
EVERY = tuple(f"{i}.{kind}" for i in LAYERS for kind in ("weight", "bias"))
MIDDLE = EVERY[2:4]
CONFIG = SamplerConfig(
    n_beta=100.0,
    localization=4.0,
    lr=1e-3,
    batch_size=512,
    num_chains=32,
    num_draws=1000,
    num_burnin_steps=800,
)
Data = tuple[Tensor, Tensor]


def perceptron_cases() -> list[Case]:
    """Returns the cases of the whole network and of one of its layers, in relative geometry."""
    about = "a trained perceptron; the truth is HMC on all examples"
    return [
        Case(
            "perceptron",
            about,
            lambda: truth(EVERY),
            lambda: measured(EVERY),
            se_bound=0.3,
            slack=0.4,
        ),
        Case(
            "perceptron-layer",
            f"{about}; one layer moves",
            lambda: truth(MIDDLE),
            lambda: measured(MIDDLE),
            se_bound=0.15,
            slack=0.3,
        ),
    ]


@cache
def module() -> tuple[torch.nn.Sequential, Data]:
    """Returns the trained network and its examples: inputs (n, 8), classes (n,)."""
    rng = stream(0, "validation perceptron")
    net, teacher = _layers(rng), _layers(rng)
    x = torch.from_numpy(rng.normal(size=(EXAMPLES, WIDTHS[0]))).float()
    y = teacher(x).argmax(1)
    noise = torch.from_numpy(rng.integers(0, WIDTHS[-1], EXAMPLES))
    y = torch.where(torch.from_numpy(rng.random(EXAMPLES) < FLIPPED), noise, y)
    adam = torch.optim.Adam(net.parameters(), lr=RATE, weight_decay=DECAY)
    for _ in range(STEPS):
        adam.zero_grad()
        functional.cross_entropy(net(x), y).backward()
        adam.step()
    return net, (x, y)


def measured(free: tuple[str, ...]) -> Measured:
    """Measures λ̂ with the shipped sampler in relative geometry."""
    net, data = module()
    loss, params = module_loss(net, _per_example)
    found = estimate(sample(loss, params, data, CONFIG, mask=dict.fromkeys(free)))
    return Measured(found.llc, found.se)


def truth(free: tuple[str, ...]) -> Truth:
    """Computes nβ E[L − L(w*)] by Hamiltonian Monte Carlo in u = (w − w*)/s."""
    net, (x, y) = module()
    star = {name: value.detach().double() for name, value in net.named_parameters()}
    scales = {name: _rms(star[name.replace("bias", "weight")]) for name in free}
    sizes = [star[name].numel() for name in free]
    x = x.double()

    def loss(v: Tensor) -> Tensor:
        """Mean cross-entropy of weights v (C, F) in units of their scales: (C,)."""
        own = {
            name: scales[name] * part.view(-1, *star[name].shape)
            for name, part in zip(free, v.split(sizes, 1), strict=True)
        }
        return _cross_entropy({n: own.get(n, value[None]) for n, value in star.items()}, x, y)

    center = torch.cat([(star[name] / scales[name]).flatten() for name in free])
    at_star = loss(center[None])

    def gradient(v: Tensor) -> tuple[Tensor, Tensor]:
        v = v.detach().requires_grad_()
        rise = loss(v) - at_star
        return rise.detach(), torch.autograd.grad(rise.sum(), v)[0]

    target = Target(center, CONFIG.n_beta, CONFIG.localization)
    found, _ = hmc(target, gradient, **HMC)
    return Truth(found.llc, 2 * found.se)


def _layers(rng: np.random.Generator) -> torch.nn.Sequential:
    """Returns layers with weights N(0, 1/inputs), and biases of 0."""
    layers: list[torch.nn.Module] = []
    for fan_in, fan_out in pairwise(WIDTHS):
        linear = torch.nn.utils.skip_init(torch.nn.Linear, fan_in, fan_out)
        weight = rng.normal(size=(fan_out, fan_in)) / np.sqrt(fan_in)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight))
            linear.bias.zero_()
        layers += [linear, torch.nn.GELU()]
    return torch.nn.Sequential(*layers[:-1])


def _per_example(net: torch.nn.Module, batch: Data) -> Tensor:
    return functional.cross_entropy(net(batch[0]), batch[1], reduction="none")


def _rms(value: Tensor) -> float:
    return float(value.square().mean().sqrt())


def _cross_entropy(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Returns the mean loss (C,) of weights (C, out, in) and biases (C, out) on all examples."""
    hidden = x[None]
    for layer in LAYERS:
        weight, bias = weights[f"{layer}.weight"], weights[f"{layer}.bias"]
        hidden = hidden @ weight.transpose(1, 2) + bias[:, None]
        if layer != LAYERS[-1]:
            hidden = functional.gelu(hidden)
    right = hidden.gather(2, y.expand(len(hidden), -1)[..., None])[..., 0]
    return (hidden.logsumexp(2) - right).mean(1)
