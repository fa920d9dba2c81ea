"""Loss and gradient of all parameters of the sorting model, lanes stacked."""

import torch
from torch import Tensor

from devsort.kernels.attention import attend, attend_backward, projections_backward
from devsort.kernels.norm import Normalised, fold, fold_backward, gains, normalise, normalise_backward
from devsort.kernels.pairs import Buffers, Pairs, Rows
from devsort.layout import Layout
from devsort.model import ATTN, Params, Shape, future_mask, param_shapes


class SortKernel:
    """Loss and gradient of all parameters.

    Args:
        shape: Dimensions of the model.
        device: Where parameters and batches are.
    """

    def __init__(self, shape: Shape, device: torch.device | str = "cpu") -> None:
        self.shape, self.device = shape, torch.device(device)
        self.layout = Layout(param_shapes(shape))
        self.pairs = Pairs(shape, self.device)
        self.buffers = Buffers(self.device)
        self.mask = causal_bias(shape, self.device)

    def value_and_grad(self, flat: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """Cross-entropy and its gradient.

        Args:
            flat: (G, P) parameters, packed by `layout`.
            rows: Each lane's minibatch.

        Returns:
            losses (G, B, L) of each answer in nats, and the gradient (G, P) of their mean. The gradient is a buffer
            that the next call overwrites.
        """
        p, grad = self.layout.views(flat), self.buffers("grad", *flat.shape)
        g, norm = self.layout.views(grad), gains(p, "blocks.0.ln1")
        x = self._embed(p, rows)
        resid = self._direct(p, x, rows)
        state = attend(p, norm, x.hat, rows, (self.buffers, self.mask, resid))
        y = normalise(resid, self.shape.layer_norm)
        losses, dlogits = cross_entropy(*fold_unembed(p), y.hat, rows, self.buffers)
        dresid = unembed_backward(p, g, y, dlogits)
        torch.sum(dresid, 1, out=g[ATTN + "b_O"])
        dkv, dq = attend_backward(p, g, dresid, state, (rows, self.buffers))
        projections_backward(p, g, norm, x.hat, (dkv, dq, rows.first_query))
        dhat = torch.bmm(dkv, state.fold_kv.mT, out=self.buffers("dhat", *x.x.shape))
        dhat[:, rows.first_query :] += torch.bmm(dq, state.fold_q.mT)
        self._embed_backward(g, normalise_backward(dhat, x), dresid, rows)
        return losses, grad

    def log_probs(self, flat: Tensor, rows: Rows) -> Tensor:
        """Log-probabilities (G, B, L, V) at the answer positions, without a gradient."""
        p = self.layout.views(flat)
        x = self._embed(p, rows)
        resid = self._direct(p, x, rows)
        attend(p, gains(p, "blocks.0.ln1"), x.hat, rows, (self.buffers, self.mask, resid))
        logp = log_probs(*fold_unembed(p), normalise(resid, self.shape.layer_norm).hat, self.buffers)
        return logp.view(*rows.targets.shape, -1)

    def losses(self, flat: Tensor, rows: Rows) -> Tensor:
        """Cross-entropy (G, B, L) of each answer in nats, without a gradient."""
        return -self.log_probs(flat, rows).gather(3, rows.targets[..., None])[..., 0]

    def _embed(self, p: Params, rows: Rows) -> Normalised:
        """Token plus position for every table row, normalised: (G, U, D)."""
        tokens, positions = _flat_rows(rows.token, self.shape.vocab), _flat_rows(rows.position, self.shape.context)
        x = self.buffers("x", tokens.numel(), self.shape.d_model)
        torch.index_select(p["embed.W_E"].flatten(0, 1), 0, tokens, out=x)
        x += p["pos_embed.W_pos"].flatten(0, 1)[positions]
        return normalise(x.view(*rows.token.shape, -1), self.shape.layer_norm)

    def _direct(self, p: Params, x: Normalised, rows: Rows) -> Tensor:
        """resid_pre + b_O at the answer positions: (G, B·L, D)."""
        table = x.x[:, rows.first_query :] + p[ATTN + "b_O"][:, None]  # (G, S, D)
        index = rows.flat(queries_only=True, query_table=True)
        out = self.buffers("resid", len(index), self.shape.d_model)
        return torch.index_select(table.flatten(0, 1), 0, index, out=out).view(len(table), -1, self.shape.d_model)

    def _embed_backward(self, g: Params, dx: Tensor, dresid: Tensor, rows: Rows) -> None:
        """Gradients of W_E and W_pos, from the tables (G, U, D) and from the residual stream (G, B·L, D)."""
        dx = dx.flatten(0, 1)
        dx.index_add_(0, rows.flat(queries_only=True), dresid.flatten(0, 1))
        for name, index in (("embed.W_E", rows.token), ("pos_embed.W_pos", rows.position)):
            G, height, D = g[name].shape
            total = dx.new_zeros(G * height, D).index_add_(0, _flat_rows(index, height), dx)
            g[name].copy_(total.view(G, height, D))


def _flat_rows(index: Tensor, height: int) -> Tensor:
    """Row numbers (G, U) in tables of a height, as flat rows of the stacked tables (G·U)."""
    lane = torch.arange(len(index), device=index.device)[:, None] * height
    return (index + lane).flatten()


def causal_bias(shape: Shape, device: torch.device) -> Tensor:
    """(L, 2L), 0 where a query may look and −inf where the key lies after it."""
    future = future_mask(shape.list_length, device)
    return torch.zeros(future.shape, device=device).masked_fill_(future, -torch.inf)


def fold_unembed(p: Params) -> tuple[Tensor, Tensor]:
    """Unembedding with the final layer norm's gains folded in: (G, D, V) and (G, 1, V)."""
    return fold(p["unembed.W_U"], p["unembed.b_U"], gains(p, "ln_final"))


def log_probs(W: Tensor, bias: Tensor, yhat: Tensor, buffers: Buffers) -> Tensor:
    """Log-probabilities (G, B·L, V)."""
    return torch.log_softmax(torch.baddbmm(bias, yhat, W, out=buffers("logits", *yhat.shape[:2], W.shape[2])), -1)


def cross_entropy(W: Tensor, bias: Tensor, yhat: Tensor, rows: Rows, buffers: Buffers) -> tuple[Tensor, Tensor]:
    """Losses (G, B, L) and the gradient of their mean by the logits (G, B·L, V)."""
    logp = log_probs(W, bias, yhat, buffers)
    targets = rows.targets.flatten(1)[..., None]  # (G, B·L, 1)
    losses = -logp.gather(2, targets).view(rows.targets.shape)
    dlogits = torch.exp(logp, out=buffers("logits", *logp.shape))
    dlogits.scatter_add_(2, targets, targets.new_full((), -1, dtype=logp.dtype).expand(targets.shape))
    return losses, dlogits.mul_(1 / targets.shape[1])


def unembed_backward(p: Params, g: Params, y: Normalised, dlogits: Tensor) -> Tensor:
    """dL/d(resid) (G, B·L, D); writes the gradients of W_U, b_U and the final layer norm."""
    norm, W_U = gains(p, "ln_final"), p["unembed.W_U"]
    dbias = dlogits.sum(1)
    dW, dnorm = fold_backward(torch.bmm(y.hat.mT, dlogits), dbias, W_U, norm)
    g["unembed.W_U"].copy_(dW)
    g["unembed.b_U"].copy_(dbias)
    if dnorm is not None:
        g["ln_final.w"].copy_(dnorm[0])
        g["ln_final.b"].copy_(dnorm[1])
    return normalise_backward(torch.bmm(dlogits, fold_unembed(p)[0].mT), y)
