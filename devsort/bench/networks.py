"""A user's network: a two-layer transformer, sampled by devsort and by devinterp.

Our sampler runs as in `llc_trajectory`: one process per core, each with the chains of one
checkpoint. devinterp works on one chain at a time with all of torch's threads. Both draw their own
minibatches from the same data set. The answer that is compared is each chain's mean loss minus the
checkpoint's on the same minibatches. `draws` compares the rates of effective draws.
"""

import copy
import tempfile
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from devsort.bench.samplers import side_by_side
from devsort.bench.timing import Timed, now, rate_of
from devsort.execution import Advanced, cores
from devsort.llc.trajectory import Job
from devsort.networks.restrictions import FULL
from devsort.networks.sampler import NetworkSampler, Work
from devsort.networks.sources import source_of
from devsort.rng import short_torch_stream
from devsort.sampling import ModuleLoss, SamplerConfig, Trace, module_loss
from devsort.sampling.geometry import Blocks

VOCABULARY, WIDTH, LENGTH, HEADS, LAYERS = 64, 64, 32, 4, 2  # 110,400 parameters
SEQUENCES = 1024
TRAINED, RATE = 32, 3e-3  # sequences per training step, and Adam's learning rate
LR = 3e-5  # ε: within 60 steps the loss rises by twenty times the scatter of its mean


class Layer(nn.Module):
    """Causal attention and an MLP, each after a layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        heads = self.qkv(self.norms[0](x)).unflatten(-1, (3, HEADS, -1))  # (B, T, 3, H, d)
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # (B, H, T, d)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norms[1](x))))


class Transformer(nn.Module):
    """Logits (B, T, V) of token ids (B, T)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.layers = nn.Sequential(*(Layer() for _ in range(LAYERS)))
        self.norm, self.unembed = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY)

    def forward(self, ids: Tensor) -> Tensor:
        """See the class."""
        places = torch.arange(ids.shape[1], device=ids.device)
        return self.unembed(self.norm(self.layers(self.embed(ids) + self.place(places))))


def token_losses(model: nn.Module, ids: Tensor) -> Tensor:
    """Losses (B, T) of the next token, for ids (B, T + 1)."""
    return F.cross_entropy(model(ids[:, :-1]).mT, ids[:, 1:], reduction="none")


@dataclass(frozen=True)
class Subject:
    """What both samplers sample.

    Attributes:
        model: The trained transformer.
        ids: (n, T + 1) sequences.
    """

    model: Transformer
    ids: Tensor

    @property
    def loss(self) -> ModuleLoss:
        """Its loss, for our sampler."""
        return module_loss(self.model, token_losses)[0]


def subject(device: torch.device, steps: int) -> Subject:
    """A transformer after `steps` of training on sequences that count up by their own strides."""
    rng = short_torch_stream(0, "bench transformer")
    starts, strides = (torch.randint(1, VOCABULARY, (SEQUENCES, 1), generator=rng) for _ in "ab")
    ids = (starts + strides * torch.arange(LENGTH + 1)) % VOCABULARY
    with torch.random.fork_rng(devices=[]):
        model = Transformer().to(device)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1:
                p.copy_(0.1 * torch.randn(p.shape, generator=rng))
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    for step in range(steps):
        first = step * TRAINED % SEQUENCES
        loss = token_losses(model, ids[first : first + TRAINED].to(device)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Subject(model.requires_grad_(True), ids)


def flops(of: Subject, batch: int) -> int:
    """Floating-point operations of the matrix products of a lane's step."""
    with FlopCounterMode(display=False) as counter:
        token_losses(
            of.model, of.ids[:batch].to(next(of.model.parameters()).device)
        ).mean().backward()
    of.model.zero_grad()
    return counter.get_total_flops()


def ours(of: Subject, config: SamplerConfig, device: str) -> Timed:
    """Our sampler; chain-steps per second of all processes together."""
    rate, traces = sampled(of, config, device)
    return Timed(rate, np.mean([trace.rise.mean(1) for trace in traces], 0))


def sampled(
    of: Subject, config: SamplerConfig, device: str, blocks: Blocks | None = None
) -> tuple[float, list[Trace]]:
    """Chain-steps per second of all our processes together, and the trace of each."""
    count = 1 if device == "cuda" else cores()
    states = {step: copy.deepcopy(of.model.state_dict()) for step in range(count)}
    source = source_of(states)
    work = Work(of.loss, source, of.ids, config, {FULL: None}, blocks=blocks, device=device)
    sampler = NetworkSampler(work)
    jobs = [Job((step,), FULL) for step in states]
    results = side_by_side(partial(_ticked, sampler), jobs)
    rate = rate_of([ticks for ticks, _ in results], config.num_chains)
    return rate, [trace for _, trace in results]


def _ticked(sampler: NetworkSampler, job: Job, _: Advanced) -> tuple[list[float], Trace]:
    ticks: list[float] = []
    (trace,) = sampler.drawn(job, lambda _: ticks.append(now(sampler.device))).values()
    return ticks, trace


def devinterp(of: Subject, config: SamplerConfig, device: str) -> Timed:
    """devinterp's `sample()` with `observables={}`; chain-steps per second within its chains."""
    rate, rises = sampled_by_devinterp(of, config, device)
    return Timed(rate, rises.mean(1))


def sampled_by_devinterp(
    of: Subject, config: SamplerConfig, device: str
) -> tuple[float, np.ndarray]:
    """devinterp's chain-steps per second, and its losses minus the checkpoint's (C, T)."""
    from datasets import Dataset
    from devinterp.slt.sampling import sample

    ticks: list[float] = []

    def loss(model: nn.Module, ids: Tensor) -> Tensor:
        ticks.append(now(ids.device))
        return token_losses(model, ids)

    names = ("lr", "n_beta", "localization", "num_chains", "batch_size")
    settings = {name: getattr(config, name) for name in names}
    data = Dataset.from_dict({"input_ids": of.ids.numpy()}).with_format("torch")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        tree = sample(
            of.model,
            data,
            observables={},
            **settings,
            num_draws=config.num_steps,
            init_seed=config.seed,
            num_init_loss_batches=1,
            match_sampling_input_ids_across_chains=False,
            loss_fn=loss,
            device=device,
            output_path=Path(folder) / "draws.zarr",
        )
        draws = tree.dataset.load()
    starts = np.reshape(ticks[-config.num_chains * config.num_steps :], (config.num_chains, -1))
    seconds = starts[:, -1] - starts[:, 1]
    rate = float(len(starts) * (config.num_steps - 2) / seconds.sum())
    return rate, _rises(of, draws)


def _rises(of: Subject, draws) -> np.ndarray:
    """Loss of each step minus the checkpoint's on the same minibatch: (C, T)."""
    loss = draws["sampling_loss_micro"].values.mean((2, 3))
    minibatches = torch.from_numpy(draws["sampling_input_ids_micro"].values)
    device = next(of.model.parameters()).device
    with torch.no_grad():
        start = [
            [float(token_losses(of.model, ids.to(device)).mean()) for ids in chain]
            for chain in minibatches
        ]
    return loss - np.array(start)
