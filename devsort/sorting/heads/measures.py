"""What each head does to each answer: attention, direct effect, and the loss without it.

For the answer t of one list, predicted at position L + i:

    attention      pattern_h[i, position of t in the list]
    copy effect    attention · (OV diagonal of t at that position) / σ_f
                   in logits, through t's own position
    direct effect  (head_out_h − its mean) · U_t / σ_f
                   in logits, through all positions
    loss increase  loss(t | head_out_h replaced) − loss(t)
                   in nats
    suppression    loss(t | head_out_h minus its suppression) − loss(t)
    gain           in nats, see `suppression`

Mean ablation replaces the head's output by its mean over all lists and answer positions, which
tells nothing about the list or about how far it is sorted. Resample ablation replaces it by the
head's output at the same position of another list. The final layer norm is applied again to the
ablated stream. U is the folded unembedding, and σ_f is what the final layer norm divides by on the
unablated stream, see `circuits`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from devsort.sorting import circuits
from devsort.sorting.heads.suppression import written
from devsort.sorting.model import ATTN, LN_EPS, Activations, Shape, activations, unembed
from devsort.sorting.task import Batch

CHUNK = 256  # lists measured at once: about 4 MB of head outputs at the baseline's size
HEAD_MEASURES = (
    "attention",
    "copy_effect",
    "direct_effect",
    "loss_increase",
    "loss_increase_resample",
    "suppression_gain",
)


@dataclass(frozen=True)
class Answers:
    """Measures of one network at each answer of each list.

    Attributes:
        targets: (B, L) int64, the answer t.
        loss: (B, L), cross-entropy in nats.
        correct: (B, L) bool.
        by_head: Each of HEAD_MEASURES as (B, H, L).
        resid_rank: Effective rank of the residual stream before the unembedding.
    """

    targets: Tensor
    loss: Tensor
    correct: Tensor
    by_head: dict[str, Tensor]
    resid_rank: float


@torch.inference_mode()
def measure(params: Mapping[str, Tensor], shape: Shape, batch: Batch) -> Answers:
    """Runs the network and computes all measures at every answer.

    Lists are processed in chunks that fit a processor's cache. The heads' outputs of all lists stay
    in memory, 4·H·L·D bytes per list.
    """
    chunks = [batch[start : start + CHUNK] for start in range(0, len(batch), CHUNK)]
    runs = [activations(params, chunk.tokens) for chunk in chunks]
    # (1, H, 1, D)
    mean = sum(act.head_out.sum((0, 2), keepdim=True) for act in runs) / batch.targets.numel()
    streams = [residual(params, act) for act in runs]
    parts = [
        _measure_chunk(params, shape, *part, mean)
        for part in zip(chunks, runs, streams, strict=True)
    ]
    loss, correct, by_head = zip(*parts, strict=True)
    return Answers(
        batch.targets,
        torch.cat(loss),
        torch.cat(correct),
        {name: torch.cat([part[name] for part in by_head]) for name in HEAD_MEASURES},
        circuits.residual_rank(torch.cat(streams)).item(),
    )


def _measure_chunk(
    params: Mapping[str, Tensor],
    shape: Shape,
    batch: Batch,
    act: Activations,
    resid: Tensor,
    mean: Tensor,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    logits = unembed(params, resid)
    loss = answer_loss(logits, batch.targets)
    at_answer, sigma = attention(act, batch, shape), scale(resid, shape)[:, None]
    by_head = {
        "attention": at_answer,
        "copy_effect": at_answer * copying_at(params, shape, batch) / sigma,
        "direct_effect": direct_effect(params, shape, act.head_out - mean, batch) / sigma,
        "loss_increase": loss_increase(params, resid, act, batch.targets, loss, mean),
        "loss_increase_resample": loss_increase(
            params, resid, act, batch.targets, loss, act.head_out.roll(1, 0)
        ),
        "suppression_gain": suppression_gain(params, shape, batch, act, resid, loss),
    }
    return loss, logits.argmax(-1) == batch.targets, by_head


def residual(params: Mapping[str, Tensor], act: Activations) -> Tensor:
    """The residual stream before the unembedding: (B, L, D)."""
    return act.resid_pre + act.head_out.sum(1) + params[ATTN + "b_O"]


def answer_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in nats at each answer: (B, L, V), (B, L) → (B, L)."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(
        targets.shape
    )


def answers(batch: Batch) -> Tensor:
    """The correct answers b_1 … b_L (B, L), from which noisy targets may differ."""
    return batch.tokens[:, batch.tokens.shape[1] // 2 + 1 :]


def target_position(batch: Batch, shape: Shape) -> Tensor:
    """Position of each answer in the list: (B, L), 0 … L−1."""
    return (
        (answers(batch)[:, :, None] == batch.tokens[:, None, : shape.list_length]).int().argmax(-1)
    )


def attention(act: Activations, batch: Batch, shape: Shape) -> Tensor:
    """Attention of each head from where t is predicted to t's position in the list: (B, H, L)."""
    at = target_position(batch, shape)[:, None, :, None].expand(-1, shape.heads, -1, 1)
    return act.pattern.gather(-1, at).squeeze(-1)


def copying_at(params: Mapping[str, Tensor], shape: Shape, batch: Batch) -> Tensor:
    """OV diagonal of each answer at its list position: (B, H, L), in logits · σ."""
    table = circuits.copying(params, shape)  # (H, N, L)
    return table[:, answers(batch), target_position(batch, shape)].movedim(0, 1)


def scale(resid: Tensor, shape: Shape) -> Tensor:
    """σ_f, what the final layer norm divides by: (…, D) → (…); 1 without layer norm."""
    if not shape.layer_norm:
        return resid.new_ones(resid.shape[:-1])
    return (resid.var(-1, correction=0) + LN_EPS).sqrt()


def direct_effect(
    params: Mapping[str, Tensor], shape: Shape, output: Tensor, batch: Batch
) -> Tensor:
    """What an output of the heads (B, H, L, D) adds to the answer's logit.

    Shape (B, H, L), in logits · σ.
    """
    to_answer = circuits.folded_unembedding(params, shape).T[answers(batch)]  # (B, L, D)
    return torch.einsum("bhld,bld->bhl", output, to_answer)


def ablated(resid: Tensor, act: Activations, head: int, replacement: Tensor) -> Tensor:
    """The residual stream (B, L, D) with one head's output replaced by that in `replacement`.

    `replacement` has shape (B or 1, H, L or 1, D).
    """
    return resid - act.head_out[:, head] + replacement[:, head]


def loss_increase(
    params: Mapping[str, Tensor],
    resid: Tensor,
    act: Activations,
    targets: Tensor,
    loss: Tensor,
    replacement: Tensor,
) -> Tensor:
    """Rise of the loss at each answer when one head is replaced: (B, H, L), nats."""
    heads = range(act.head_out.shape[1])
    streams = (ablated(resid, act, h, replacement) for h in heads)
    return torch.stack([answer_loss(unembed(params, s), targets) - loss for s in streams], 1)


def suppression_gain(
    params: Mapping[str, Tensor],
    shape: Shape,
    batch: Batch,
    act: Activations,
    resid: Tensor,
    loss: Tensor,
) -> Tensor:
    """Rise of the loss at each answer without one head's suppression: (B, H, L), nats."""
    heads = range(shape.heads)
    streams = (resid - written(params, shape, act.pattern[:, h], batch, h).whole for h in heads)
    return torch.stack([answer_loss(unembed(params, s), batch.targets) - loss for s in streams], 1)


@torch.inference_mode()
def mean_scale(params: Mapping[str, Tensor], shape: Shape, batch: Batch) -> float:
    """Harmonic mean of σ_f over answers: dividing OV by it gives its mean effect in logits."""
    resid = residual(params, activations(params, batch.tokens))
    return 1 / (1 / scale(resid, shape)).mean().item()
