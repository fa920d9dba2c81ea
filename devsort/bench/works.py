"""What the bench measures: each kind of work, with our contender and the peers."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from devsort.bench import costs, draws, floor, networks, samplers, trainers
from devsort.bench.agreement import same_losses, same_means
from devsort.bench.timing import Contender, Work
from devsort.execution import resolve_device
from devsort.sampling import SamplerConfig
from devsort.sorting.config import default_config
from devsort.sorting.model import Params, Shape, model_shape
from devsort.sorting.run import Run
from devsort.sorting.train import Trainer

# a GPU's memory divided by what lanes may take; the rest is for the frozen parts of checkpoints and
# for noise
FILL = 6


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        batches: Lists per SGLD step.
        restrictions: What the chains sample.
        repeats: How often each contender runs; contenders alternate.
        chain_steps: Steps of a chain at small batches; fewer at large ones.
        draw_steps: Unit of the lengths of the chains whose effective draws are counted.
        train_steps: Optimiser steps of one repeat.
        warm_steps: Training steps before the checkpoint that is sampled; twice as many for the
            transformer.
        device: cpu, or cuda for all contenders.
        overrides: `key=value` changes of the default config.
    """

    batches: tuple[int, ...] = (32, 64, 128, 512)
    restrictions: tuple[str, ...] = ("full", "h0")
    repeats: int = 3
    chain_steps: int = 60
    draw_steps: int = 60
    train_steps: int = 24
    warm_steps: int = 200
    device: str = "cpu"
    overrides: tuple[str, ...] = ()


def works(settings: Settings) -> list[Work]:
    """Every kind of work, in the order of the rows. Trains the checkpoint that is sampled."""
    base = _run(settings)
    trainer = Trainer(base)
    for _ in range(settings.warm_steps):
        trainer.advance()
    params = {name: value.clone() for name, value in trainer.params().items()}
    sampled = [
        _sampler(settings, batch, name, params)
        for batch in settings.batches
        for name in settings.restrictions
    ]
    return [*sampled, *_costs(settings), *_network(settings), _training(base, settings.train_steps)]


def _costs(settings: Settings) -> list[Work]:
    """LLCs of a stored checkpoint; none for a task or a model of another size, or on a GPU."""
    if settings.overrides or settings.device == "cuda":
        return []

    def work(name: str) -> Work:
        return Work(
            what=f"LLC {name}",
            batch=SamplerConfig().batch_size,
            unit="LLCs to 1 %/CPU min",
            flops=None,
            ours=lambda repeat: costs.ours(name, settings.draw_steps, repeat),
            peers={
                f"devinterp {installed('devinterp')}": lambda repeat: costs.devinterp(
                    name, settings.draw_steps, repeat
                )
            },
            agreement=same_means,
        )

    return [work(name) for name in costs.RESTRICTIONS]


def _network(settings: Settings) -> list[Work]:
    """A user's two-layer transformer: the rates of steps and of effective draws."""
    of = networks.subject(resolve_device(settings.device), 2 * settings.warm_steps)
    own = {"num_draws": settings.chain_steps, "num_burnin_steps": 0, "lr": networks.LR}
    every = [SamplerConfig(geometry="absolute", seed=i, **own) for i in range(settings.repeats)]

    def work(what: str, unit: str, batch: int, ours: Contender, devinterp: Contender) -> Work:
        peers, flops = {f"devinterp {installed('devinterp')}": devinterp}, networks.flops(of, batch)
        return Work(what, batch, unit, flops, ours, peers, same_means)

    return [
        work(
            "sampler transformer",
            "chain-steps/s",
            every[0].batch_size,
            lambda repeat: networks.ours(of, every[repeat], settings.device),
            lambda repeat: networks.devinterp(of, every[repeat], settings.device),
        ),
        work(
            "draws transformer",
            "effective draws/s",
            SamplerConfig().batch_size,
            lambda repeat: draws.ours(of, settings.draw_steps, repeat, settings.device),
            lambda repeat: draws.devinterp(of, settings.draw_steps, repeat, settings.device),
        ),
    ]


def _sampler(settings: Settings, batch: int, name: str, params: Params) -> Work:
    steps = min(settings.chain_steps, max(24, 7680 // batch))

    def run(repeat: int) -> Run:
        return _run(settings, batch_size=batch, num_draws=steps, num_burnin_steps=0, seed=repeat)

    flops = floor.step_flops(_shape(run(0)), batch, one_head=name != "full")
    peers: dict[str, Contender] = {}
    peers[f"devinterp {installed('devinterp')}"] = lambda repeat: samplers.devinterp(
        run(repeat), name, params
    )
    if installed("transformer-lens"):
        peers["devinterp on transformer-lens"] = lambda repeat: samplers.devinterp_on_hooked(
            run(repeat), name, params
        )
    return Work(
        what=f"sampler {name}",
        batch=batch,
        unit="chain-steps/s",
        flops=flops,
        ours=lambda repeat: samplers.ours(run(repeat), name, params),
        peers=peers,
        agreement=same_means,
    )


def _training(run: Run, steps: int) -> Work:
    peers: dict[str, Contender] = {"plain autograd": lambda _: trainers.plain(run, steps)}
    if found := installed("transformer-lens"):
        peers[f"transformer-lens {found}"] = lambda _: trainers.hooked(run, steps)
    return Work(
        what="trainer",
        batch=run.config.train.batch_size,
        unit="steps/s",
        flops=floor.step_flops(_shape(run), run.config.train.batch_size),
        ours=lambda _: trainers.ours(run, steps),
        peers=peers,
        agreement=same_losses,
    )


def _run(settings: Settings, **sampler: int) -> Run:
    """A run that is never written: the defaults, without parts of the data.

    On a GPU it allows as many lanes as fill the memory.
    """
    memory = ()
    if settings.device == "cuda":
        memory = (f"memory={torch.cuda.mem_get_info()[1] // FILL // 2**20}",)
    own = tuple(f"llc.sampler.{key}={value}" for key, value in sampler.items())
    both = ("llc.parts=[]", "llc.sampler.geometry=absolute")  # the geometry of the literature
    overrides = (f"device={settings.device}", *both, *memory, *settings.overrides, *own)
    return Run(Path("bench"), default_config(overrides))


def _shape(run: Run) -> Shape:
    return model_shape(run.config.task, run.config.model)


def installed(package: str) -> str:
    """The version of a package; empty if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
