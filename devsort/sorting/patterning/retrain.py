"""Training that continues from a checkpoint on other lists, with the run's own settings."""

import torch

from devsort.execution import one_core
from devsort.sorting.kernels import SortKernel
from devsort.sorting.model import Params, model_shape
from devsort.sorting.patterning.lists import WeightedLists
from devsort.sorting.run import Run


@one_core()
def retrain(run: Run, params: Params, lists: WeightedLists, seed: int, steps: int) -> Params:
    """The weights after some steps of Adam, whose moments start at zero.

    Args:
        run: Gives the settings of training.
        params: Weights at the start.
        lists: The lists to train on.
        seed: Seed of the lists.
        steps: Number of steps.
    """
    c, shape = run.config.train, model_shape(run.config.task, run.config.model)
    kernel = SortKernel(shape)
    flat = kernel.layout.flatten(params)[None].clone().requires_grad_()
    adam = torch.optim.Adam([flat], c.lr, c.betas, c.eps, c.weight_decay, fused=True)
    for step in range(1, steps + 1):
        batch = lists.batch(seed, step, c.batch_size)
        flat.grad = kernel.value_and_grad(flat.detach(), batch[None])[1]
        adam.step()
    return kernel.layout.views(flat.detach()[0])
