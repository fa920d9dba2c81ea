"""Trainers: ours, a plain loop over the readable model, and a plain loop over HookedTransformer.

All start from the same weights and see the same batches, which are drawn beforehand; all use Adam
with the run's settings. The loss of every step is compared.
"""

import warnings
from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from devsort.bench.timing import Timed, now, rate_of
from devsort.execution import cores, crew, one_core, resolve_device
from devsort.sorting.model import Shape, init_params, losses, model_shape
from devsort.sorting.run import Run
from devsort.sorting.task import BLOCK, Batch, train_batch
from devsort.sorting.train import Gradients, Trainer, learning_rate


def ours(run: Run, steps: int) -> Timed:
    """`Trainer.advance`, optimiser steps per second.

    The second process draws its batches in the first step.
    """
    on_two_cores = cores() > 1 and resolve_device(run.config.device).type == "cpu"
    with one_core(), crew(Gradients(run), int(on_two_cores)) as helpers:
        trainer = Trainer(run, *helpers)

        def advance(_: int) -> float:
            trainer.advance()
            return trainer.loss

        return _timed(run, steps, advance)


def plain(run: Run, steps: int) -> Timed:
    """Autograd on `devsort.sorting.model.losses` with a plain torch.optim.Adam."""
    shape, seed = model_shape(run.config.task, run.config.model), run.config.train.seed
    params = init_params(shape, run.config.model.init_scale, seed)
    params = {
        name: p.to(resolve_device(run.config.device)).requires_grad_() for name, p in params.items()
    }
    return _loop(
        run,
        steps,
        params.values(),
        lambda batch: losses(params, batch.tokens, batch.targets).mean(),
    )


def hooked(run: Run, steps: int) -> Timed:
    """HookedTransformer with a plain torch.optim.Adam.

    Raises:
        ImportError: transformer-lens is not installed.
    """
    shape, seed = model_shape(run.config.task, run.config.model), run.config.train.seed
    model, L = hooked_transformer(shape, resolve_device(run.config.device)), shape.list_length
    model.load_state_dict(init_params(shape, run.config.model.init_scale, seed), strict=False)

    def loss(batch: Batch) -> Tensor:
        logits = model(batch.tokens[:, :-1])[:, L:]  # (B, L, V)
        return F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())

    return _loop(run, steps, model.parameters(), loss)


def hooked_transformer(shape: Shape, device: torch.device | str = "cpu") -> torch.nn.Module:
    """TransformerLens's model of the same dimensions.

    Raises:
        ImportError: transformer-lens is not installed.
    """
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    config = HookedTransformerConfig(
        n_layers=1,
        d_model=shape.d_model,
        d_head=shape.d_head,
        n_heads=shape.heads,
        n_ctx=shape.context,
        d_vocab=shape.vocab,
        attn_only=True,
        normalization_type="LN" if shape.layer_norm else None,
        device=str(device),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it announces a newer class
        return HookedTransformer(config)


def _loop(
    run: Run, steps: int, leaves: Iterable[Tensor], loss_of: Callable[[Batch], Tensor]
) -> Timed:
    c = run.config.train
    adam, device = (
        torch.optim.Adam(leaves, c.lr, c.betas, c.eps, c.weight_decay),
        resolve_device(run.config.device),
    )

    def advance(step: int) -> float:
        adam.param_groups[0]["lr"] = learning_rate(c, step)
        loss = loss_of(train_batch(run.config.task, step, c.batch_size).to(device))
        adam.zero_grad()
        loss.backward()
        adam.step()
        return float(loss.detach())

    return _timed(run, steps, advance)


def _timed(run: Run, steps: int, advance: Callable[[int], float]) -> Timed:
    for step in range(1, steps + 1, BLOCK):  # draws once, and caches for the next contender
        train_batch(run.config.task, step, run.config.train.batch_size)
    ticks, values, device = [], [], resolve_device(run.config.device)
    for step in range(1, steps + 1):
        values.append(advance(step))
        ticks.append(now(device))
    return Timed(rate_of([ticks]), np.array(values))
