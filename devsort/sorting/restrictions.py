"""Weight restrictions: which parameters move while the rest are frozen.

They give the weight-refined LLC of arXiv 2410.02984.
"""

import fnmatch
import re

import torch

from devsort.errors import UserError
from devsort.sampling.masks import Mask
from devsort.sorting.model import ATTN, Shape, param_shapes

GROUPS = {
    "embed": ("embed.*",),
    "pos": ("pos_embed.*",),
    "unembed": ("unembed.*",),
    "norms": ("*ln1.*", "ln_final.*"),
}
HEAD_PARTS = {"qk": ("W_Q", "W_K", "b_Q", "b_K"), "ov": ("W_V", "W_O", "b_V")}


def expand(names: tuple[str, ...], heads: int) -> tuple[str, ...]:
    """Replaces `heads` by h0 … h{H−1}, and removes repeated names."""
    expanded = [
        h
        for name in names
        for h in ([f"h{i}" for i in range(heads)] if name == "heads" else [name])
    ]
    return tuple(dict.fromkeys(expanded))


def restriction_mask(name: str, shape: Shape) -> Mask | None:
    """The free entries of a restriction.

    Args:
        name: `full`; `h0`, … (W_Q, W_K, W_V, W_O, b_Q, b_K, b_V of a head; b_O is in none);
            `h0.qk`, `h0.ov`; `embed`, `pos`, `unembed`, `norms`; or a pattern of parameter names
            such as `blocks.0.attn.W_*`.
        shape: Dimensions of the model.

    Returns:
        Name → bool tensor, or None for a whole parameter; None for `full`.

    Raises:
        UserError: There is no such head, or no parameter matches.
    """
    if name == "full":
        return None
    if head := re.fullmatch(r"h(\d+)(?:\.(qk|ov))?", name):
        return _head_mask(name, int(head[1]), head[2], shape)
    patterns = GROUPS.get(name, (name,))
    matches = [n for n in param_shapes(shape) if any(fnmatch.fnmatchcase(n, p) for p in patterns)]
    if not matches:
        known = ", ".join(["full", "heads", "h0", "h0.qk", "h0.ov", *GROUPS])
        raise UserError(
            f"llc.restrictions: no parameter matches {name!r}", f"use {known} or a pattern of names"
        )
    return dict.fromkeys(matches)


def whole_head(name: str) -> int | None:
    """The head number if a restriction is exactly one head."""
    return int(name[1:]) if re.fullmatch(r"h\d+", name) else None


def _head_mask(name: str, head: int, part: str | None, shape: Shape) -> Mask:
    if head >= shape.heads:
        raise UserError(
            f"llc.restrictions: {name!r}, but the model has {shape.heads} heads",
            "heads are counted from h0",
        )
    leaves = HEAD_PARTS[part] if part else HEAD_PARTS["qk"] + HEAD_PARTS["ov"]
    shapes = param_shapes(shape)
    mask: Mask = {}
    for leaf in leaves:
        chosen = torch.zeros(shapes[ATTN + leaf], dtype=torch.bool)
        chosen[head] = True
        mask[ATTN + leaf] = chosen
    return mask
