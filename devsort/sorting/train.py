"""The trainer: Adam with L2 weight decay, and dense checkpoints.

Step k is the network after k updates. Batch k is a function of k alone, and every checkpoint is
written together with the optimiser's state, so on a CPU a resumed run gives the same bits as a run
that was never interrupted. A GPU sums in no fixed order.
"""

import json
import math
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from devsort.errors import UserError, saying
from devsort.execution import Member, cores, crew, one_core, progress, resolve_device
from devsort.sorting.checkpoints import (
    checkpoint_steps,
    load_resume_state,
    load_resume_step,
    logged_steps,
    read_log,
    resume_step,
    save_checkpoint,
    save_resume_state,
)
from devsort.sorting.config import TrainConfig
from devsort.sorting.kernels import SortKernel
from devsort.sorting.model import equal_heads, init_params, model_shape
from devsort.sorting.run import Run
from devsort.sorting.task import Batch, eval_batch, train_batch
from devsort.storage.artifact import identity
from devsort.storage.files import remove, write_atomic

EVAL_CHUNK = 512  # lists per forward pass of an evaluation; bounds its memory
SHARDS = 2  # parts of a batch on the CPU; fixed, so that the number of cores changes no bit
# lists left to train on, above which a second process is worth the seconds that its start takes
ALONE = 200_000


class Gradients:
    """What each shard of a step's batch contributes to the mean loss and its gradient.

    Args:
        run: The run folder with its config.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.device = resolve_device(run.config.device)
        self.kernel = SortKernel(model_shape(run.config.task, run.config.model), self.device)

    def __reduce__(self) -> tuple:
        """Pickles the run alone: another process makes its own kernel."""
        return Gradients, (self.run,)

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return 1 if self.device.type == "cuda" else min(SHARDS, self.run.config.train.batch_size)

    @one_core()
    def __call__(
        self, job: tuple[int, np.ndarray, slice], advanced: Any = None
    ) -> list[tuple[float, np.ndarray]]:
        """`of` for another process: parameters and gradients are arrays, which pickle fast."""
        step, flat, which = job
        return [(loss, grad.numpy()) for loss, grad in self.of(step, torch.from_numpy(flat), which)]

    def of(self, step: int, flat: Tensor, which: slice = slice(None)) -> list[tuple[float, Tensor]]:
        """The part of the loss in nats and of the gradient (1, P) from each of the chosen shards.

        Args:
            step: Training step, from 1.
            flat: (1, P), parameters.
            which: The shards.
        """
        batch = train_batch(self.run.config.task, step, self.run.config.train.batch_size).to(
            self.device
        )
        size = -(-len(batch) // self.shards)
        shards = [batch[slice(i, i + size)] for i in range(0, len(batch), size)]
        return [self._part(flat, shard, len(shard) / len(batch)) for shard in shards[which]]

    def _part(self, flat: Tensor, shard: Batch, weight: float) -> tuple[float, Tensor]:
        losses, grad = self.kernel.value_and_grad(flat, shard[None])
        return weight * float(losses.mean()), weight * grad


class Trainer:
    """The network, its optimiser and its step counter.

    Adam (Kingma & Ba 2015) with decay in the gradient, G = ∇L + λ_wd w, which is not AdamW.

    A batch is cut into SHARDS parts whatever the number of cores, so the sum of their gradients has
    the same bits on one core or two.

    Args:
        run: The run folder with its config.
        helper: A process whose work is `Gradients`; it takes all shards but the first.
    """

    def __init__(self, run: Run, helper: Member | None = None) -> None:
        self.run, self.config, self.helper = run, run.config.train, helper
        self.gradients = Gradients(run)
        self.device, self.kernel = self.gradients.device, self.gradients.kernel
        self.layout = self.kernel.layout
        shape = model_shape(run.config.task, run.config.model)
        params = init_params(shape, run.config.model.init_scale, self.config.seed)
        if run.config.model.init_heads == "equal":
            params = equal_heads(params)
        self.flat = self.layout.flatten(params).to(self.device)[None].requires_grad_()  # (1, P)
        c = self.config
        self.adam = torch.optim.Adam([self.flat], c.lr, c.betas, c.eps, c.weight_decay, fused=True)
        self.step, self.loss = 0, float("nan")

    def advance(self) -> None:
        """One optimiser step on the batch of the next step number."""
        self.step += 1
        losses, grads = zip(*self._parts(self.flat.detach()), strict=True)
        self.flat.grad = sum(grads)
        for group in self.adam.param_groups:
            group["lr"] = learning_rate(self.config, self.step)
        self.adam.step()
        self.loss = sum(losses)

    def _parts(self, flat: Tensor) -> list[tuple[float, Tensor]]:
        if self.helper is None:
            return self.gradients.of(self.step, flat)
        self.helper.give((self.step, flat.numpy(), slice(1, None)))
        mine = self.gradients.of(self.step, flat, slice(1))
        return mine + [(loss, torch.from_numpy(grad)) for loss, grad in self.helper.result()]

    def params(self) -> dict[str, Tensor]:
        """The weights as a state dict of views."""
        return self.layout.views(self.flat.detach()[0])

    def evaluate(self, data: Batch) -> tuple[float, float]:
        """Cross-entropy in nats and accuracy, both averaged over all answers."""
        loss, right = 0.0, 0
        for i in range(0, len(data), EVAL_CHUNK):
            part = data[slice(i, i + EVAL_CHUNK)]
            logp = self.kernel.log_probs(self.flat.detach(), part[None])[0]  # (B, L, V)
            loss -= float(logp.gather(2, part.targets[..., None]).sum())
            right += int((logp.argmax(2) == part.targets).sum())
        return loss / data.targets.numel(), right / data.targets.numel()

    def save(self, log: str) -> None:
        """Writes the checkpoint, then the state to resume from.

        If the process is killed between the two, the steps since the last save are repeated.

        Args:
            log: Identity of the log up to this step, by which a reader checks that it is complete.
        """
        save_checkpoint(self.run, self.step, self.params())
        state = self.adam.state[self.flat]
        moments = {name: state[name] for name in ("exp_avg", "exp_avg_sq")}
        save_resume_state(self.run, self.step, {"flat": self.flat, **moments}, log)

    def resume(self, step: int) -> None:
        """Restores the state saved at `step`."""
        state = load_resume_state(self.run, step)
        self.flat.data.copy_(state["flat"])
        moments = {k: state[k].to(self.device) for k in ("exp_avg", "exp_avg_sq")}
        self.adam.state[self.flat] = {
            "step": torch.tensor(float(step), device=self.device),
            **moments,
        }
        self.step = step


def train(run: Run, force: bool = False) -> dict:
    """Trains a run to its last step.

    Training resumes from the last saved step, or starts again if a file is damaged or missing.

    Args:
        run: The run folder.
        force: Discard what was trained and start again.

    Returns:
        run, steps, checkpoints, val_loss (nats), val_accuracy, steps_per_second (of this call; 0 if
        nothing was left).

    Raises:
        UserError: The folder was trained from another config, or training diverged.
    """
    with run.lock():
        if force:
            remove(run.checkpoints)
            remove(run.training_log)
        start, steps = resume_step(run), run.config.train.steps
        with saying(lambda: f"steps up to {load_resume_step(run)} of {steps} are saved"):
            seconds = _train_from(run, start) if start < steps else 0.0
    done = steps - start
    last = read_log(run)[-1]
    return {
        "run": str(run.path),
        "steps": steps,
        "checkpoints": len(run.steps()),
        "val_loss": last["val_loss"],
        "val_accuracy": last["val_accuracy"],
        "steps_per_second": round(done / seconds, 2) if seconds else 0.0,
    }


def table(value: dict) -> str:
    """The result of `train` as text."""
    return (
        f"{value['run']}: step {value['steps']:,}, {value['checkpoints']} checkpoints, "
        f"validation loss {value['val_loss']:.4f} nats, accuracy {value['val_accuracy']:.4f}, "
        f"{value['steps_per_second']:.1f} steps/s"
    )


def learning_rate(config: TrainConfig, step: int) -> float:
    """Learning rate of a step.

    It is constant, or linear from lr at step 1 to lr_final at the last step.
    """
    if config.lr_final is None or config.steps == 1:
        return config.lr
    return config.lr + (config.lr_final - config.lr) * (step - 1) / (config.steps - 1)


def _train_from(run: Run, start: int) -> float:
    """Trains from a saved step to the end, on two cores if that pays off; returns the seconds."""
    gradients, c = Gradients(run), run.config.train
    pays = gradients.device.type == "cpu" and (c.steps - start) * c.batch_size > ALONE
    with one_core(), crew(gradients, int(pays and cores() > 1 and gradients.shards > 1)) as helpers:
        return _run_to_the_end(Trainer(run, *helpers), start)


def _run_to_the_end(trainer: Trainer, start: int) -> float:
    run, config = trainer.run, trainer.config
    if start:
        trainer.resume(start)
    data = eval_batch(run.config.task).to(trainer.device)
    steps_to_save = set(checkpoint_steps(config.checkpoints, config.steps))
    steps_to_log = set(logged_steps(config))
    log = [line for line in read_log(run) if line["step"] <= start] if start else []
    start_time = time.perf_counter()
    with progress(
        total=config.steps, initial=start, desc=f"train {run.path.name}", unit="step"
    ) as bar:
        while trainer.step < config.steps:
            trainer.advance()
            if trainer.step in steps_to_log:
                log.append(_log_line(trainer, data))
                bar.set_postfix(
                    loss=f"{log[-1]['val_loss']:.4f}",
                    accuracy=f"{log[-1]['val_accuracy']:.4f}",
                    refresh=False,
                )
            if trainer.step in steps_to_save:
                write_atomic(
                    run.training_log, "".join(json.dumps(line) + "\n" for line in log).encode()
                )
                trainer.save(identity(log))
            bar.update()
    return time.perf_counter() - start_time


def _log_line(trainer: Trainer, data: Batch) -> dict:
    val_loss, val_accuracy = trainer.evaluate(data)
    finite = (
        math.isfinite(val_loss)
        and math.isfinite(trainer.loss)
        and bool(torch.isfinite(trainer.flat).all())
    )
    if not finite:
        fix = "lower train.lr; the checkpoints before it are kept"
        raise UserError(
            f"training diverged by step {trainer.step}: loss or weights are no longer finite", fix
        )
    return {
        "step": trainer.step,
        "loss": trainer.loss,
        "val_loss": val_loss,
        "val_accuracy": val_accuracy,
        "lr": learning_rate(trainer.config, trainer.step),
        "weight_norm": float(trainer.flat.detach().norm()),
    }
