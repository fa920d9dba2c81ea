"""What a head writes to lower the numbers that it attends to, and how similar it is to the copier.

For list position j with number s, the head writes x_j = pattern_j · OV(s). Its suppression is the
part along the unembedding U_s, if that lowers s: min(x_j · U_s, 0) U_s / |U_s|² (McDougall et al.
2023, arXiv 2310.04625). Parts along several numbers are added. The part along the answer lowers the
answer itself; the parts along its competitors raise the answer relative to them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from devsort.sorting import circuits
from devsort.sorting.model import Shape
from devsort.sorting.task import Batch

FEWEST = 3  # keys above the query that a row of QK must have to be compared


@dataclass(frozen=True)
class Written:
    """A head's suppression at each answer.

    Attributes:
        whole: (B, L, D), along all numbers that it attends to and lowers.
        own: (B, L, D), the part along the answer.
    """

    whole: Tensor
    own: Tensor

    @property
    def competitors(self) -> Tensor:
        """(B, L, D), the parts along all other numbers."""
        return self.whole - self.own


def written(
    params: Mapping[str, Tensor], shape: Shape, pattern: Tensor, batch: Batch, head: int
) -> Written:
    """The suppression of one head at each answer.

    Args:
        params: State dict.
        shape: Its dimensions.
        pattern: (B, L, 2L), the head's attention.
        batch: The lists.
        head: Index of the head.
    """
    L = shape.list_length
    unembedding = circuits.folded_unembedding(params, shape)  # (D, N)
    diagonal = circuits.copying(params, shape)[head].clamp_max(0)  # (N, L)
    lists, answers = batch.tokens[:, :L], batch.tokens[:, L + 1 :]
    effect = pattern[..., :L] * diagonal[lists, torch.arange(L, device=lists.device)][:, None]
    amount = effect.new_zeros(*effect.shape[:2], shape.numbers)  # (B, L, N)
    amount.scatter_(-1, lists[:, None].expand_as(effect), effect)
    amount /= unembedding.square().sum(0).clamp_min(torch.finfo(amount.dtype).tiny)
    own = amount.gather(-1, answers[..., None]) * unembedding.T[answers]
    return Written(amount @ unembedding.T, own)


def attention_similarity(pattern: Tensor, batch: Batch, numbers: Tensor) -> Tensor:
    """Mean cosine between the attention of each pair of heads, where the answer is in `numbers`.

    Args:
        pattern: (B, H, L, 2L).
        batch: The lists.
        numbers: (N,) bool, the answers that count.

    Returns:
        (H, H), NaN if none of the numbers is an answer.
    """
    length = pattern.shape[2]
    chosen = numbers[batch.tokens[:, length + 1 :]]  # (B, L)
    rows = pattern[..., :length].movedim(1, 2)[chosen]  # (answers, H, L)
    rows = rows / rows.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return torch.einsum("ahl,akl->hk", rows, rows) / len(rows)


def qk_similarity(params: Mapping[str, Tensor], shape: Shape) -> Tensor:
    """Mean correlation between the QK rows of each pair of heads: (H, H).

    Only keys larger than the query enter, because only they can be the answer. Rows with fewer than
    FEWEST of them are left out.
    """
    scores = circuits.qk(params, shape)  # (H, N + 1, N)
    rows = [scores[:, query, query + 1 :] for query in range(shape.numbers - FEWEST)]
    correlations = [torch.corrcoef(row) for row in [scores[:, -1], *rows]]
    return torch.stack(correlations).nanmean(0).view(shape.heads, shape.heads)
