"""devinterp's own SGLD, with its draws as a `Trace`: the reference for our sampler.

devinterp's initial loss is a mean over other batches than its chains see. It stores the minibatches
of its chains, so the loss of the starting point is computed on them here. By default all its
chains see the same batches; here each chain has its own. devinterp seeds the global generators of
torch and numpy.

devinterp has no relative geometry, but it samples the parameters of any module. Given scales s, the
module here has the parameters v = w / s, so devinterp's chain is one in relative geometry.
"""

import contextlib
import io
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from datasets import Dataset
from devinterp.slt.sampling import sample
from torch import Tensor

from devsort.errors import UserError
from devsort.layout import Layout
from devsort.sampling.config import SamplerConfig
from devsort.sampling.masks import Mask, free_entries
from devsort.sampling.trace import Trace
from devsort.sorting.model import Params, forward, losses
from devsort.sorting.task import Batch


class SortModule(torch.nn.Module):
    """The model as a torch module whose `named_parameters` have HookedTransformer's names.

    Args:
        params: State dict; copied.
        scales: s; the parameters are then v = w / s. None for s = 1.
    """

    def __init__(
        self, params: Mapping[str, Tensor], scales: Mapping[str, Tensor] | None = None
    ) -> None:
        super().__init__()
        self._names, self._scales = list(params), scales or {}
        for name, value in params.items():
            if scales:
                value = value / scales[name]
            *path, leaf = name.split(".")
            node: torch.nn.Module = self
            for part in path:
                if part not in dict(node.named_children()):
                    node.add_module(part, torch.nn.Module())
                node = node.get_submodule(part)
            node.register_parameter(leaf, torch.nn.Parameter(value.clone()))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, L, V) at the answer positions."""
        return forward({name: self._weight(name) for name in self._names}, tokens)

    def _weight(self, name: str) -> Tensor:
        value = self.get_parameter(name)
        return value * self._scales[name] if self._scales else value


def answer_loss(logits: Tensor, input_ids: Tensor) -> Tensor:
    """Per-token loss (B, 2L) of logits (B, L, V) at the answer positions.

    It is zero before SEP and twice the loss of each answer, so that devinterp's mean over tokens is
    the model's mean over answers.
    """
    L = input_ids.shape[1] // 2
    targets = input_ids[:, L + 1 :]
    answers = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(
        targets.shape
    )
    return F.pad(2 * answers, (L, 0))


def sample_with_devinterp(
    params: Params,
    data: Batch,
    config: SamplerConfig,
    mask: Mask | None,
    seed: int,
    on_step: Callable[[], None] = lambda: None,
    device: torch.device | str = "cpu",
    module: torch.nn.Module | None = None,
) -> Trace:
    """Runs devinterp's `sample()` around a checkpoint.

    Args:
        params: The checkpoint.
        data: The data set; targets must be the sorted list.
        config: Sampler settings; the names are those of devinterp.
        mask: Free entries, or None for all.
        seed: devinterp's init_seed.
        on_step: Called before each loss that devinterp computes: first one for each chain, then
            those of the steps, one chain after the other.
        device: Where devinterp computes.
        module: The checkpoint as a module with the same parameter names; `SortModule` if None. It
            may return logits at every position of its input. A `SortModule` with scales is
            sampled in relative geometry.

    Returns:
        The trace; `work`, `force` and `distance`, which devinterp does not give per draw, are NaN.

    Raises:
        UserError: The data has label noise, which devinterp's loss on token ids cannot express.
    """
    if not torch.equal(data.targets, data.tokens[:, -data.targets.shape[1] :]):
        raise UserError(
            "--sampler devinterp does not support task.label_noise", "leave out --sampler devinterp"
        )
    params = {name: value.cpu() for name, value in params.items()}

    def loss_fn(model: torch.nn.Module, input_ids: Tensor) -> Tensor:
        on_step()
        return answer_loss(model(input_ids[:, :-1])[:, -data.targets.shape[1] :], input_ids)

    with tempfile.TemporaryDirectory() as folder, _quiet():
        model, path = module or SortModule(params), Path(folder) / "draws.zarr"
        tree = _sample(model, data, config, mask, seed, path, loss_fn, str(device))
        # (C, steps)
        loss = tree["sampling_loss_micro"].mean(["batch_sampling", "token_pos"]).values
        # (C, steps, B, 2L+1)
        minibatches = torch.from_numpy(tree["sampling_input_ids_micro"].values)
    init_loss = _loss_at(params, minibatches)
    first, every = config.num_burnin_steps, config.num_steps_bw_draws
    missing = np.full((len(loss), config.num_draws), np.nan, np.float32)
    return Trace(
        loss=loss[:, first::every],
        init_loss=init_loss[:, first::every],
        work=missing,
        force=missing,
        distance=missing,
        heating=missing[:, :0],
        burnin_loss=loss[:, :first],
        burnin_init_loss=init_loss[:, :first],
        parts={},
        dimension=len(free_entries(Layout.of(params), mask)),
        config=config,
    )


def _sample(
    model: torch.nn.Module,
    data: Batch,
    config: SamplerConfig,
    mask: Mask | None,
    seed: int,
    path: Path,
    loss_fn: Callable[[torch.nn.Module, Tensor], Tensor],
    device: str,
) -> xr.Dataset:
    tree = sample(
        model,
        Dataset.from_dict({"input_ids": data.tokens.cpu().numpy()}).with_format("torch"),
        observables={},
        lr=config.lr,
        n_beta=config.n_beta,
        localization=config.localization,
        llc_weight_decay=config.prior,
        noise_level=config.noise_level,
        num_chains=config.num_chains,
        num_draws=config.num_draws,
        num_burnin_steps=config.num_burnin_steps,
        num_steps_bw_draws=config.num_steps_bw_draws,
        batch_size=config.batch_size,
        num_init_loss_batches=1,
        init_seed=seed,
        match_sampling_input_ids_across_chains=False,
        param_masks=mask,
        loss_fn=loss_fn,
        device=device,
        output_path=path,
    )
    return tree.dataset.load()


def _loss_at(params: Params, minibatches: Tensor) -> np.ndarray:
    """Loss of the starting point on stored minibatches (C, steps, B, 2L+1): (C, steps)."""

    def loss(tokens: Tensor) -> Tensor:
        return losses(params, tokens, tokens[:, minibatches.shape[3] // 2 + 1 :]).mean()

    with torch.no_grad():
        return torch.stack(
            [torch.stack([loss(tokens) for tokens in chain]) for chain in minibatches]
        ).numpy()


@contextlib.contextmanager
def _quiet():
    """Hides devinterp's progress bars and its warnings about the temporary folder."""
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
