"""Relative geometry: weights are measured in units of their own size, so that the LLC depends on
the function alone.

Many rescalings of its weights leave the function of a network unchanged: for example, W_V by β and
W_O by 1/β, or everything that writes to the residual stream by α. They do change a ball of fixed
radius around w*. Here each block of weights is measured in units of its own scale s, the root mean
square (RMS) of its entries at w*:

    v = w / s,    u = v − v* = (w − w*) / s    (pure numbers, u in units of the block's scale)
    posterior     exp(−nβ L(s ∘ v) − γ/2 |v − v*|² − ρ/2 |v|²)
    chain         v ← v − (ε/2) (nβ s ∘ ∇L(s ∘ v) + γ (v − v*) + ρ v) + sqrt(ε) N(0, I)

so localization, prior, step and noise all act on v. A scaling symmetry multiplies the weights and
their scale by the same factor, so it leaves v, the loss and the whole chain unchanged. For any
network, γ = 1/a² allows a direction that does not affect the loss to move by a times the scale of
its block (γ = 4: by half of it). ε and γ are pure numbers. Samplers are not aware of this:
`Rescaled` presents the objective to them as a function of v. The trace's work, force and distance,
and the equilibrium identity E[u·G_v] = d + (ε/4) E|G_v|², then refer to v as well.

| block                       | scale                                                              |
|-----------------------------|--------------------------------------------------------------------|
| a tensor, or a part of it   | the RMS of its entries                                             |
| a bias                      | the scale of its weight, times that of the weight's input if it is |
|                             | known: a bias is one more row of the weight, with a constant input |
| the gain of a norm          | RMS / √D: it is a diagonal matrix (D, D), and this is its RMS      |
| the bias of a norm          | the scale of the gain                                              |
| a block that is nearly zero | FLOOR times the median over blocks, so that it hardly moves        |

This does not cover symmetries that scale the entries of one block differently, such as each
coordinate of a head's W_V against W_O or each neuron of a ReLU layer, unless the blocks are made
that small.
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

FLOOR = 1e-4  # smallest scale of a block, relative to the median scale of the blocks


@dataclass(frozen=True)
class Block:
    """How a parameter is divided into blocks, and how their scales are computed.

    Attributes:
        axis: Axis along which the parameter is divided. With None, it is one block.
        parts: Number of equal parts along the axis. With None, every index is a block of its own. A
            fused W_QKV of H heads with shape (D, 3 D) has axis 1 and 3 H parts.
        follows: Parameters whose scales are multiplied to give the scale of this one. Each must
            have either one block or as many blocks as this one. If empty, the scale is the RMS of
            the entries.
        factor: Multiplies the RMS, or the product of the scales that it follows.
    """

    axis: int | None = None
    parts: int | None = None
    follows: tuple[str, ...] = ()
    factor: float = 1.0


Blocks = Mapping[
    str, "Block | Tensor"
]  # name or pattern → Block, or the number of the block of every entry


def default_blocks(params: Params) -> dict[str, Block]:
    """Returns one block per tensor. `NAME.bias` has the scale of `NAME.weight`, if that exists.

    A `weight` with one axis is taken to be the gain of a norm, a diagonal matrix; see the module.

    This is exact for symmetries that scale the output of a layer. For symmetries that scale its
    input (two ReLU layers), let the bias follow its weight *and* the weights before it.
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
    """Returns the scale of every entry, constant within a block, in the unit of the weights.

    Args:
        params: w*, name → tensor.
        blocks: Name or pattern (`*.c_attn.weight`) → `Block`, or an integer tensor with the shape
            of the parameter that contains the number of each entry's block, from 0. The first match
            is used; other parameters have `default_blocks`.
        floor: Smallest scale, relative to the median scale of the blocks.

    Returns:
        Name → scale, with the shape, type and device of the parameter; all positive.

    Raises:
        UserError: If the blocks do not fit the parameters, follow one another in a circle, or are
            all zero.
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
            "set geometry: absolute, or give blocks that follow a parameter that is not zero",
        )
    least = floor * float(every[every > 0].median())
    scales = {name: value.clamp(min=least) for name, value in own.items()}
    for name in chosen:
        _follow(name, chosen, scales, numbers, ())
    return {name: scales[name][numbers[name]].to(params[name]) for name in params}


class Rescaled:
    """An objective as a function of v = w / s; see the module.

    A sampler can use it in place of the original objective.

    Args:
        objective: A function of w; see `objective.Objective`.
        scale: s, positive: (F,) for all lanes, or (K, F), where each row is for G/K consecutive
            lanes.
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
        """See `Objective`; v is (G, F), and the gradient is that with respect to v, s ∘ ∇_w L."""
        loss, init_loss, grad, parts = self.objective(self.weights(v), step)
        self._lanes(grad).mul_(self.scale)
        return loss, init_loss, grad, parts

    def weights(self, v: Tensor) -> Tensor:
        """Returns w = s v (G, F), in memory that the next call overwrites."""
        torch.mul(self._lanes(v), self.scale, out=self._lanes(self._w))
        return self._w

    def _lanes(self, flat: Tensor) -> Tensor:
        """Returns (G, F) as a view (K, G/K, F), one group of lanes per row of the scales."""
        return flat.unflatten(0, (len(self.scale), -1))


def flat_scale(layout: Layout, scales: Params, free: Tensor | None = None) -> Tensor:
    """Packs scales into a flat vector in the same way as parameters.

    It has only the free entries (F,) if these are given.
    """
    flat = layout.flatten(scales)
    return flat if free is None else flat[free]


def scale_change(networks: Sequence[Params], blocks: Blocks | None = None) -> tuple[float, str]:
    """Returns the largest factor by which the scale of a block differs between networks.

    Also returns the name of the parameter that it belongs to.
    """
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
    resolved: dict[str, Block | Tensor] = {**default_blocks(params)}
    for name in params:
        resolved[name] = next(
            (b for p, b in blocks.items() if fnmatch.fnmatchcase(name, p)), resolved[name]
        )
    return resolved


def _follows(block: Block | Tensor) -> tuple[str, ...]:
    return block.follows if isinstance(block, Block) else ()


def _factor(block: Block | Tensor) -> float:
    return block.factor if isinstance(block, Block) else 1.0


def _numbers(name: str, value: Tensor, block: Block | Tensor) -> Tensor:
    """Returns the number of the block of every entry."""
    if isinstance(block, Tensor):
        if block.shape != value.shape:
            what = f"blocks of {name} have shape {tuple(block.shape)}"
            raise UserError(what, f"give {tuple(value.shape)}")
        return block.to(value.device, torch.int64)
    if block.axis is None:
        return torch.zeros(value.shape, dtype=torch.int64, device=value.device)
    size = value.shape[block.axis] if -value.dim() <= block.axis < value.dim() else 0
    parts = size if block.parts is None else block.parts
    if not size or size % parts:
        raise UserError(
            f"blocks of {name}: axis {block.axis} of {tuple(value.shape)} cannot be divided into "
            f"{parts} equal parts",
            "give an axis that it has, and a number of parts that divides its length",
        )
    along = torch.arange(size, device=value.device) // (size // parts)
    lead = [1] * value.dim()
    lead[block.axis] = size
    return along.view(lead).expand(value.shape)


def _rms(value: Tensor, numbers: Tensor) -> Tensor:
    """Returns the root mean square of the entries of each block, in float64."""
    flat, which = value.detach().double().flatten(), numbers.flatten()
    count = torch.bincount(which)
    square = torch.zeros(len(count), dtype=flat.dtype, device=flat.device)
    return (square.index_add_(0, which, flat**2) / count.clamp(min=1)).sqrt()


def _follow(
    name: str,
    blocks: Mapping[str, Block | Tensor],
    scales_of: dict[str, Tensor],
    numbers: Mapping[str, Tensor],
    above: tuple[str, ...],
) -> Tensor:
    """Returns the scales of a parameter's blocks, computed from the parameters that it follows."""
    if name not in blocks:
        raise UserError(
            f"blocks of {above[-1]} follow {name!r}, which is not a parameter", "correct the name"
        )
    if name in above:
        raise UserError(
            f"blocks follow one another in a circle: {' → '.join((*above, name))}",
            "let one of them follow no other",
        )
    if name not in scales_of:
        count = int(numbers[name].max()) + 1
        product = torch.ones(count, dtype=torch.float64, device=numbers[name].device)
        for other in _follows(blocks[name]):
            scales = _follow(other, blocks, scales_of, numbers, (*above, name))
            if len(scales) not in (1, count):
                raise UserError(
                    f"{name} has {count} blocks but follows {other}, which has {len(scales)}",
                    "divide both into the same blocks, or do not divide one of them",
                )
            product = product * scales
        scales_of[name] = product * _factor(blocks[name])
    return scales_of[name]
