"""All settings and their defaults.

A run is defined by its config.yaml alone. All models are frozen and refuse unknown keys; the
resolved config (with defaults filled in) is stored with every artifact.
"""

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from devsort.errors import UserError
from devsort.sampling.config import SamplerConfig
from devsort.stages.config import StagesConfig
from devsort.storage.settings import (
    NonNegative,
    Positive,
    PositiveInt,
    Section,
    Seed,
    problems,
    set_key,
)
from devsort.storage.yaml_files import parse_yaml, read_yaml


class TaskConfig(Section):
    """Which lists are sorted."""

    list_length: int = Field(10, ge=2, le=100, description="L, numbers in a list")
    numbers: int = Field(
        51, ge=2, le=1000, description="N, lists are drawn from 0…N−1; SEP is token N"
    )
    mean_gap: Positive | None = Field(
        None, description="δ̄, mean gap of neighbours in a sorted list; null: uniform lists"
    )
    label_noise: float = Field(
        0.0, ge=0, le=1, description="probability that a random number replaces a training target"
    )
    train_lists: PositiveInt | None = Field(
        None, description="size of a finite training set; null: fresh lists"
    )
    eval_lists: PositiveInt = Field(2048, description="size of the fixed evaluation set")
    seed: Seed = Field(0, description="seed of training and evaluation lists")

    @model_validator(mode="after")
    def _fits(self) -> "TaskConfig":
        if self.list_length > self.numbers:
            fewer = f"the {self.numbers} numbers to draw from"
            raise ValueError(f"list_length {self.list_length} is more than {fewer}")
        widest = (self.numbers - 1) / (self.list_length - 1)
        if self.mean_gap is not None and not 1 < self.mean_gap < widest:
            bounds = f"between 1 and {widest:.4g}, both excluded"
            raise ValueError(f"mean_gap must lie {bounds}, got {self.mean_gap:g}")
        return self


class ModelConfig(Section):
    """One attention layer, no MLP; the defaults are the 49,684 parameters of arXiv 2501.18666."""

    heads: int = Field(2, ge=1, le=8, description="H, attention heads")
    d_model: int = Field(96, ge=1, le=4096, description="D, width of the residual stream")
    d_head: int = Field(48, ge=1, le=4096, description="width of a head")
    layer_norm: bool = Field(
        True, description="layer norm before attention and before the unembedding"
    )
    init_scale: Positive = Field(
        0.8, description="weights start at N(0, init_scale² / d_model), biases at 0"
    )
    init_heads: Literal["equal"] | None = Field(
        None, description="equal: all heads start alike, and stay so; null: each has its own start"
    )


class ScheduleConfig(Section):
    """Steps at which a checkpoint is saved.

    They are spaced logarithmically from step 1, then linearly; the last step is always saved.
    """

    per_decade: PositiveInt = Field(
        24, description="checkpoints per factor of ten in the logarithmic part"
    )
    linear_from: PositiveInt = Field(2000, description="step at which the schedule turns linear")
    linear_every: PositiveInt = Field(
        200, description="steps between checkpoints in the linear part"
    )


class TrainConfig(Section):
    """How the network is trained.

    Adam with its L2 form of weight decay minimises the cross-entropy of the L answers.
    """

    steps: PositiveInt = Field(6000, description="optimiser steps")
    batch_size: PositiveInt = Field(512, description="lists per step")
    lr: Positive = Field(1e-3, description="learning rate")
    lr_final: Positive | None = Field(
        None, description="learning rate at the last step, reached linearly; null: constant"
    )
    weight_decay: NonNegative = Field(0.005, description="λ_wd: Adam's gradient is ∇L + λ_wd·w")
    betas: tuple[float, float] = Field((0.9, 0.999), description="Adam's moment decay rates")
    eps: Positive = Field(1e-8, description="Adam's ε")
    seed: Seed = Field(0, description="seed of the initial weights")
    log_every: PositiveInt = Field(
        50, description="steps between lines of training.jsonl, besides those at checkpoints"
    )
    checkpoints: ScheduleConfig = Field(ScheduleConfig(), description="which steps are saved")

    @model_validator(mode="after")
    def _betas_in_range(self) -> "TrainConfig":
        if not all(0 <= b < 1 for b in self.betas):
            raise ValueError(f"betas must lie in [0, 1), got {list(self.betas)}")
        return self


class LLCConfig(Section):
    """The trajectory of the local learning coefficient."""

    sampler: SamplerConfig = Field(SamplerConfig(), description="settings of the sampler")
    dataset_size: PositiveInt = Field(8192, description="lists that minibatches are drawn from")
    restrictions: tuple[str, ...] = Field(
        ("full", "heads"), min_length=1, description="parameters that move; heads: each head alone"
    )
    parts: tuple[str, ...] = Field(
        ("gaps",), description="parts of the data with an LLC of their own: gaps, targets:K"
    )
    first_step: PositiveInt = Field(
        20, description="first step to sample; at earlier ones the LLC is negative"
    )
    max_checkpoints: PositiveInt = Field(
        24, description="most checkpoints to sample from first_step on, evenly over log step"
    )


class HeadsConfig(Section):
    """What the heads do; equations and reasons in docs/head-modes.md."""

    lists: PositiveInt = Field(2048, description="evaluation lists used for attention and ablation")
    copy_share: float = Field(
        0.25, gt=0, le=1, description="least copying that counts, relative to the strongest copier"
    )
    suppress_share: float = Field(
        0.1, gt=0, le=1, description="least lowering that counts, relative to the strongest copier"
    )
    suppress_se: Positive = Field(
        3.0, description="standard errors by which the loss must rise if suppression is removed"
    )
    copy_floor: Positive = Field(
        1.0, description="logits that a head must add to a number to copy it"
    )
    need: Positive = Field(
        0.7, description="rise of the loss in nats that makes a head needed: odds about halve"
    )
    extent: float = Field(
        0.1, gt=0, le=1, description="share of all numbers that a role must cover to be named"
    )
    split: float = Field(
        0.4, gt=0, le=1, description="lowest split score of a network that is called splitting"
    )
    overlap: float = Field(
        0.2, gt=0, le=1, description="lowest overlap score of heads that are called overlapping"
    )
    bootstrap: PositiveInt = Field(200, description="resamples of the lists for the intervals")
    seed: Seed = Field(0, description="seed of the bootstrap")


class SusceptibilityConfig(Section):
    """The response of each component to each part of the data; see docs/susceptibility.md."""

    components: tuple[str, ...] = Field(
        ("heads",), min_length=1, description="restrictions of llc.restrictions; heads: each head"
    )
    lists: PositiveInt = Field(512, description="lists whose losses are evaluated at the draws")
    every: PositiveInt = Field(4, description="evaluate every n-th draw of a chain")
    gap_classes: int = Field(4, ge=2, le=50, description="number of classes of lists by mean gap")


class Config(Section):
    """Everything that defines a run."""

    task: TaskConfig = TaskConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    llc: LLCConfig = LLCConfig()
    heads: HeadsConfig = HeadsConfig()
    stages: StagesConfig = StagesConfig()
    susceptibility: SusceptibilityConfig = SusceptibilityConfig()
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: the GPU if there is one"
    )
    memory: PositiveInt = Field(
        2048, description="MiB of memory per worker for the lanes that it samples side by side"
    )


def load_config(path: str | os.PathLike, overrides: tuple[str, ...] = ()) -> Config:
    """Reads config.yaml and applies `key=value` overrides with dotted keys.

    Raises:
        UserError: The file is missing or is not a YAML mapping, or a key or value is refused (the
            message lists all problems).
    """
    path = Path(path)
    data = read_yaml(path)
    for override in overrides:
        _apply(data, override)
    return parse_config(data, path)


def default_config(overrides: tuple[str, ...] = ()) -> Config:
    """The defaults with `key=value` overrides, for work that does not belong to a run."""
    data: dict[str, Any] = {}
    for override in overrides:
        _apply(data, override)
    return parse_config(data, "--set")


def parse_config(data: dict[str, Any], where: Path | str) -> Config:
    """Validates a mapping; `where` names its source in the error."""
    try:
        return Config.model_validate(data)
    except ValidationError as e:
        raise UserError(
            f"{where}: {problems(e)}", "see `devsort config --help` for keys and ranges"
        ) from None


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise UserError(
            f"--set {override!r} is not key=value", "write for example --set train.steps=1000"
        )
    try:
        parsed = parse_yaml(value)
    except ValueError:
        raise UserError(
            f"--set {override!r}: the value is not valid YAML", "quote it or write a plain value"
        ) from None
    set_key(data, key.strip(), parsed, f"--set {override!r}")
