"""The largest curvature against the exact Hessian of a network small enough to have one."""

import torch
from oracles import random_params
from torch import Tensor

from devsort.layout import Layout
from devsort.sampling.curvature import largest_curvature
from devsort.sorting.config import ModelConfig, TaskConfig
from devsort.sorting.model import losses, model_shape, param_shapes
from devsort.sorting.task import eval_batch

TASK = TaskConfig(list_length=3, numbers=5, eval_lists=60)


def test_largest_curvature_is_that_of_the_hessian_to_two_per_cent():
    shape, data = model_shape(TASK, ModelConfig(heads=1, d_model=4, d_head=3)), eval_batch(TASK)
    params = {name: p.float() for name, p in random_params(param_shapes(shape), 0).items()}
    layout = Layout.of(params)

    def loss(flat: Tensor) -> Tensor:
        return losses(layout.views(flat), data.tokens, data.targets).mean()

    w, gradient = layout.flatten(params), torch.func.vmap(torch.func.grad(loss))
    hessian = torch.autograd.functional.hessian(loss, w)
    exact = float(torch.linalg.eigvalsh(hessian).abs().max())
    assert abs(largest_curvature(gradient, w, iterations=40) / exact - 1) < 0.02
