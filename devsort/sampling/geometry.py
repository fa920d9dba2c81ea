"""Relative geometry: weights measured in units of their own size, so that the LLC depends on the
function alone.

A network computes the same function after many rescalings of its weights: all that writes to the
residual stream by α, W_V by β and W_O by 1/β. A ball of fixed radius around w* is not the same ball
after such a move. Here each block of weights is measured in its own scale s, the root mean square
(RMS) of its entries at w*:

    v = w / s,    u = v − v* = (w − w*) / s    (pure numbers, u in shares of the block's scale)
    posterior     exp(−nβ L(s ∘ v) − γ/2 |v − v*|² − ρ/2 |v|²)
    chain         v ← v − (ε/2) (nβ s ∘ ∇L(s ∘ v) + γ (v − v*) + ρ v) + sqrt(ε) N(0, I)

so localization, prior, step and noise are all in v. A scaling symmetry multiplies weights and
scales alike: v, the loss and the whole chain stay what they are. γ = 1/a² lets a direction that the
loss does not feel move by the share a of its block's scale (γ = 4: by half of it), for any network;
ε and γ are pure numbers. Samplers need to know nothing of this: `Rescaled` shows them the objective
in v. The trace's work, force and distance, and the identity of equilibrium E[u·G_v] = d + (ε/4)
E|G_v|², are then in v too.

| what                        | its scale                                                          |
|-----------------------------|--------------------------------------------------------------------|
| a tensor, or a part of it   | the RMS of its entries                                             |
| a bias                      | that of the weight it joins times that of the weight's input where |
|                             | it is known: it is one more row of the weight, of constant input   |
| a norm's gain               | RMS / √D: it is a diagonal matrix (D, D), and this is its RMS      |
| a norm's bias               | that of the gain                                                   |
| a block that is nearly zero | FLOOR times the median of the blocks: it is held nearly still      |

What is not covered: symmetries that scale entries of one block differently (each coordinate of a
head's W_V against W_O, each neuron of a ReLU layer) unless blocks are made as fine.
"""

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from devsort.errors import UserError
from devsort.layout import Layout
from devsort.sampling.objective import Objective, Params, Parts

FLOOR = 1e-4  # smallest scale of a block, relative to the median of the blocks'


@dataclass(frozen=True)
class Block:
    """How a parameter is divided into blocks, and where their scales come from.

    Attributes:
        axis: Axis along which the parameter is divided; None: it is one block.
        parts: Number of equal parts along the axis; None: every index is a block of its own. A
            fused W_QKV of H heads with shape (D, 3 D) has axis 1 and 3 H parts.
        follows: Parameters whose scales are multiplied to give this one's; empty: the RMS of its
            own entries. Each of them has one block, or as many as this one.
        factor: The scale is this times the RMS, or times the product.
    """

    axis: int | None = None
    parts: int | None = None
    follows: tuple[str, ...] = ()
    factor: float = 1.0


Blocks = Mapping[
    str, "Block | Tensor"
]  # name or pattern → Block, or the block's number of every entry


def default_blocks(params: Params) -> dict[str, Block]:
    """A block for each tensor; torch's `NAME.bias` takes the scale of `NAME.weight` where there is
    one.

    A `weight` of one axis is the gain of a norm, a diagonal matrix; see the module.

    That is exact for symmetries that scale what a layer gives. For those that scale what it takes
    (two ReLU layers), let the bias follow the weight *and* those before it.
    """
    blocks = {}
    for name, value in params.items():
        weight = name.removesuffix("bias") + "weight"
        follows = (weight,) if name.split(".")[-1] == "bias" and weight in params else ()
        gain = name.split(".")[-1] == "weight" and value.dim() == 1
        blocks[name] = Block(follows=follows, factor=len(value) ** -0.5 if gain else 1.0)
    return blocks


def block_scales(
    params: Params, blocks: Blocks | None = None, floor: float = FLOOR
) -> dict[str, Tensor]:
    """The scale of every entry, constant on blocks, in the unit of the weights.

    Args:
        params: w*, name → tensor.
        blocks: Name or pattern (`*.c_attn.weight`) → `Block`, or an integer tensor of the
            parameter's shape that numbers the blocks of its entries from 0; the first match counts,
            `default_blocks` holds for the rest.
        floor: Smallest scale, relative to the median of the blocks'.

    Returns:
        Name → scale, each of the parameter's shape, type and device; all positive.

    Raises:
        UserError: Blocks do not fit the parameters, follow one another in a circle, or are all
        zero.
    """
    chosen = _resolve(params, blocks or {})
    numbers = {name: _numbers(name, params[name], block) for name, block in chosen.items()}
    own = {
        name: _factor(block) * _rms(params[name], numbers[name])
        for name, block in chosen.items()
        if not _follows(block)
    }
    every = torch.cat([value.flatten() for value in own.values()]) if own else torch.zeros(1)
    if not (every > 0).any():
        raise UserError(
            "every block of weights is zero or not finite at w*, so none has a scale of its own",
            "set geometry: absolute, or give blocks that follow something that is not zero",
        )
    least = floor * float(every[every > 0].median())
    found = {name: value.clamp(min=least) for name, value in own.items()}
    for name in chosen:
        _follow(name, chosen, found, numbers, ())
    return {name: found[name][numbers[name]].to(params[name]) for name in params}


class Rescaled:
    """An objective in the variables v = w / s; see the module. It stands for the objective in any
    sampler.

    Args:
        objective: In w; see `objective.Objective`.
        scale: s, (F,) for all lanes, or (K, F), positive: each row for G/K lanes that follow one
            another.
    """

    def __init__(self, objective: Objective, scale: Tensor) -> None:
        self.objective = objective
        self.static = getattr(objective, "static", False)
        self.scale = (
            scale.expand(1, -1)[:, None] if scale.dim() == 1 else scale[:, None]
        )  # (K, 1, F)
        self.center = (self._lanes(objective.center) / self.scale).view(objective.center.shape)
        self._w = torch.empty_like(self.center)

    def __call__(self, v: Tensor, step: int | Tensor) -> tuple[Tensor, Tensor, Tensor, Parts]:
        """As `Objective`, at parameters v (G, F), with the gradient by v: ∇_v L = s ∘ ∇_w L."""
        loss, init_loss, grad, parts = self.objective(self.weights(v), step)
        self._lanes(grad).mul_(self.scale)
        return loss, init_loss, grad, parts

    def weights(self, v: Tensor) -> Tensor:
        """w = s v (G, F), memory that is used again."""
        torch.mul(self._lanes(v), self.scale, out=self._lanes(self._w))
        return self._w

    def _lanes(self, flat: Tensor) -> Tensor:
        """(G, F) as a view (K, G/K, F), a row of the scales each."""
        return flat.unflatten(0, (len(self.scale), -1))


def flat_scale(layout: Layout, scales: Params, free: Tensor | None = None) -> Tensor:
    """Scales packed as the parameters are: (F,), of the free entries if they are given."""
    flat = layout.flatten(scales)
    return flat if free is None else flat[free]


def scale_change(networks: Sequence[Params], blocks: Blocks | None = None) -> tuple[float, str]:
    """The largest factor by which a block's scale differs between networks, and its parameter."""
    logs = [{n: s.log() for n, s in block_scales(p, blocks).items()} for p in networks]
    spans = {}
    for name in logs[0]:
        each = torch.stack([log[name] for log in logs])
        spans[name] = math.exp(float((each.amax(0) - each.amin(0)).max()))
    widest = max(spans, key=spans.__getitem__)
    return spans[widest], widest


def _resolve(params: Params, blocks: Blocks) -> dict[str, Block | Tensor]:
    unused = [p for p in blocks if not any(fnmatch.fnmatchcase(n, p) for n in params)]
    if unused:
        raise UserError(f"blocks: no parameter matches {unused[0]!r}", f"use {list(params)}")
    given: dict[str, Block | Tensor] = {**default_blocks(params)}
    for name in params:
        given[name] = next(
            (b for p, b in blocks.items() if fnmatch.fnmatchcase(name, p)), given[name]
        )
    return given


def _follows(block: Block | Tensor) -> tuple[str, ...]:
    return block.follows if isinstance(block, Block) else ()


def _factor(block: Block | Tensor) -> float:
    return block.factor if isinstance(block, Block) else 1.0


def _numbers(name: str, value: Tensor, block: Block | Tensor) -> Tensor:
    """The block's number of every entry."""
    if isinstance(block, Tensor):
        if block.shape != value.shape:
            told = f"blocks of {name} have shape {tuple(block.shape)}"
            raise UserError(told, f"give {tuple(value.shape)}")
        return block.to(value.device, torch.int64)
    if block.axis is None:
        return torch.zeros(value.shape, dtype=torch.int64, device=value.device)
    size = value.shape[block.axis] if -value.dim() <= block.axis < value.dim() else 0
    parts = size if block.parts is None else block.parts
    if not size or size % parts:
        raise UserError(
            f"blocks of {name}: {parts} equal parts on axis {block.axis} of {tuple(value.shape)}",
            "name an axis that it has, and a number that divides it",
        )
    along = torch.arange(size, device=value.device) // (size // parts)
    lead = [1] * value.dim()
    lead[block.axis] = size
    return along.view(lead).expand(value.shape)


def _rms(value: Tensor, numbers: Tensor) -> Tensor:
    """Root mean square of each block's entries, float64."""
    flat, which = value.detach().double().flatten(), numbers.flatten()
    count = torch.bincount(which)
    square = torch.zeros(len(count), dtype=flat.dtype, device=flat.device)
    return (square.index_add_(0, which, flat**2) / count.clamp(min=1)).sqrt()


def _follow(
    name: str,
    blocks: Mapping[str, Block | Tensor],
    found: dict[str, Tensor],
    numbers: Mapping[str, Tensor],
    above: tuple[str, ...],
) -> Tensor:
    """The scales of a parameter's blocks, from those that it follows."""
    if name not in blocks:
        raise UserError(
            f"blocks of {above[-1]} follow {name!r}, which is no parameter", "mend the name"
        )
    if name in above:
        raise UserError(
            f"blocks follow one another in a circle: {' → '.join((*above, name))}",
            "let one of them follow none",
        )
    if name not in found:
        count = int(numbers[name].max()) + 1
        product = torch.ones(count, dtype=torch.float64, device=numbers[name].device)
        for other in _follows(blocks[name]):
            scales = _follow(other, blocks, found, numbers, (*above, name))
            if len(scales) not in (1, count):
                raise UserError(
                    f"{name} has {count} blocks but follows {other}, which has {len(scales)}",
                    "divide both alike, or one of them not at all",
                )
            product = product * scales
        found[name] = product * _factor(blocks[name])
    return found[name]
