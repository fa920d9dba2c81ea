"""The largest curvature against the exact Hessian of a network small enough to have one."""

import torch
from oracles import random_params

from devsort.sampling.curvature import largest_curvature
from devsort.sorting.config import ModelConfig, TaskConfig
from devsort.sorting.kernels import SortKernel
from devsort.sorting.model import losses, model_shape, param_shapes
from devsort.sorting.task import eval_batch

TASK = TaskConfig(list_length=3, numbers=5, eval_lists=60)


def test_largest_curvature_is_that_of_the_hessian_to_two_per_cent():
    shape = model_shape(TASK, ModelConfig(heads=1, d_model=4, d_head=3))
    kernel, data = SortKernel(shape), eval_batch(TASK)
    params = random_params(param_shapes(shape), 0)
    params = {name: value.float() for name, value in params.items()}

    def loss(flat: torch.Tensor) -> torch.Tensor:
        return losses(kernel.layout.views(flat), data.tokens, data.targets).mean()

    hessian = torch.autograd.functional.hessian(loss, kernel.layout.flatten(params))
    exact = float(torch.linalg.eigvalsh(hessian).abs().max())
    assert abs(largest_curvature(kernel, params, data, iterations=40) / exact - 1) < 0.02
