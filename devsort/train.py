"""The trainer: Adam with L2 weight decay, dense checkpoints, and a resume that is bitwise the run never interrupted.

Step k is the network after k updates. Batch k is a function of k alone, and every checkpoint is written together with
the optimiser's state, so a resumed run computes exactly what the uninterrupted run computes.
"""

import json
import math
import time
from concurrent.futures import Executor

import torch
from torch import Tensor

from devsort.artifacts import Run, identity, origin_of_step, save_checkpoint, save_tensors
from devsort.checkpoints import (
    checkpoint_steps,
    load_resume_state,
    load_resume_step,
    logged_steps,
    read_log,
    resume_step,
)
from devsort.config import TrainConfig
from devsort.errors import UserError, saying
from devsort.files import remove, write_atomic
from devsort.kernels import SortKernel
from devsort.model import init_params, model_shape
from devsort.progress import progress
from devsort.task import Batch, eval_batch, train_batch
from devsort.threads import cores, workers

EVAL_CHUNK = 512  # lists per forward pass of an evaluation, bounds memory
SHARDS = 2  # parts of a batch on the CPU; fixed, so that the number of cores changes no bit


class Trainer:
    """The network, its optimiser and its step counter.

    Adam (Kingma & Ba 2015) with decay in the gradient, G = ∇L + λ_wd w, which is not AdamW.

    A batch is cut into SHARDS parts, each with its own kernel, whatever the number of cores: the sum of their gradients
    is the same bits with one core or many.

    Args:
        run: The run folder with its config.
        pool: Where shards are computed side by side, see `devsort.threads.workers`; one after the other without it.
    """

    def __init__(self, run: Run, pool: Executor | None = None) -> None:
        self.run, self.config = run, run.config.train
        self.device = resolve_device(run.config.device)
        shape = model_shape(run.config.task, run.config.model)
        self.kernels = [SortKernel(shape, self.device) for _ in range(1 if self.device.type == "cuda" else SHARDS)]
        self.layout, self._map = self.kernels[0].layout, pool.map if pool else map
        params = init_params(shape, run.config.model.init_scale, self.config.seed)
        self.flat = self.layout.flatten(params).to(self.device)[None].requires_grad_()  # (1, P)
        c = self.config
        self.adam = torch.optim.Adam([self.flat], c.lr, c.betas, c.eps, c.weight_decay, fused=True)
        self.step, self.loss = 0, float("nan")

    def advance(self) -> None:
        """One optimiser step on the batch of the next step number."""
        self.step += 1
        batch = train_batch(self.run.config.task, self.step, self.config.batch_size).to(self.device)
        weights = [len(shard) / len(batch) for shard in self._split(batch)]
        parts = list(self._map(self._value_and_grad, self.kernels, self._split(batch)))
        self.flat.grad = sum(weight * grad for weight, (_, grad) in zip(weights, parts, strict=True))
        for group in self.adam.param_groups:
            group["lr"] = learning_rate(self.config, self.step)
        self.adam.step()
        self.loss = sum(weight * loss for weight, (loss, _) in zip(weights, parts, strict=True))

    def params(self) -> dict[str, Tensor]:
        """The weights as a state dict of views."""
        return self.layout.views(self.flat.detach()[0])

    def evaluate(self, data: Batch) -> tuple[float, float]:
        """Cross-entropy in nats and accuracy, both mean over all answers."""
        parts = list(self._map(self._score, self.kernels, self._split(data)))
        return tuple(sum(column) / data.targets.numel() for column in zip(*parts, strict=True))

    def _split(self, batch: Batch) -> list[Batch]:
        size = -(-len(batch) // len(self.kernels))
        return [batch[slice(i, i + size)] for i in range(0, len(batch), size)]

    def _value_and_grad(self, kernel: SortKernel, shard: Batch) -> tuple[float, Tensor]:
        losses, grad = kernel.value_and_grad(self.flat.detach(), shard[None])
        return float(losses.mean()), grad

    def _score(self, kernel: SortKernel, shard: Batch) -> tuple[float, int]:
        """Summed cross-entropy and the number of right answers."""
        loss, right = 0.0, 0
        for i in range(0, len(shard), EVAL_CHUNK):
            part = shard[slice(i, i + EVAL_CHUNK)]
            logp = kernel.log_probs(self.flat.detach(), part[None])[0]  # (B, L, V)
            loss -= float(logp.gather(2, part.targets[..., None]).sum())
            right += int((logp.argmax(2) == part.targets).sum())
        return loss, right

    def save(self, log: str) -> None:
        """Writes the checkpoint, then the state to resume from: a kill between the two repeats the last stretch.

        Args:
            log: Identity of the log's lines up to here, by which a reader knows them whole.
        """
        save_checkpoint(self.run, self.step, self.params())
        state = self.adam.state[self.flat]
        tensors = {"flat": self.flat, "exp_avg": state["exp_avg"], "exp_avg_sq": state["exp_avg_sq"]}
        save_tensors(self.run.resume_state, tensors, {**origin_of_step(self.run, self.step), "log": log})

    def resume(self, step: int) -> None:
        """Takes up the state saved at `step`."""
        saved = load_resume_state(self.run, step)
        self.flat.data.copy_(saved["flat"])
        moments = {k: saved[k].to(self.device) for k in ("exp_avg", "exp_avg_sq")}
        self.adam.state[self.flat] = {"step": torch.tensor(float(step), device=self.device), **moments}
        self.step = step


def train(run: Run, force: bool = False) -> dict:
    """Trains a run to its last step, from where it stands; from the start if something of it is damaged or missing.

    Args:
        run: The run folder.
        force: Start again from nothing.

    Returns:
        run, steps, checkpoints, val_loss (nats), val_accuracy, steps_per_second (of this call; 0 if nothing was left).

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
    """The result of `train` for a reader."""
    return (
        f"{value['run']}: step {value['steps']:,}, {value['checkpoints']} checkpoints, "
        f"validation loss {value['val_loss']:.4f} nats, accuracy {value['val_accuracy']:.4f}, "
        f"{value['steps_per_second']:.1f} steps/s"
    )


def learning_rate(config: TrainConfig, step: int) -> float:
    """Rate of step 1 … steps: constant, or linear from lr at step 1 to lr_final at the last step."""
    if config.lr_final is None or config.steps == 1:
        return config.lr
    return config.lr + (config.lr_final - config.lr) * (step - 1) / (config.steps - 1)


def resolve_device(device: str) -> torch.device:
    """`auto` is the GPU where there is one. On the CPU, denormal floats are flushed to zero in this thread.

    Weight decay drives a fifth of the weights into denormal floats, on which a CPU takes up to four times as long.

    Raises:
        UserError: `cuda` is asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda is asked for, but torch sees no GPU", "use --set device=auto")
    chosen = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    if chosen == "cpu":
        torch.set_flush_denormal(True)
    return torch.device(chosen)


def _train_from(run: Run, start: int) -> float:
    """Trains from a saved step to the end; returns the seconds it took."""
    with workers(min(SHARDS, cores())) as pool:
        return _run_to_the_end(Trainer(run, pool), start)


def _run_to_the_end(trainer: Trainer, start: int) -> float:
    run, config = trainer.run, trainer.config
    if start:
        trainer.resume(start)
    data = eval_batch(run.config.task).to(trainer.device)
    saved = set(checkpoint_steps(config.checkpoints, config.steps))
    logged = set(logged_steps(config))
    log = [line for line in read_log(run) if line["step"] <= start] if start else []
    begun = time.perf_counter()
    with progress(total=config.steps, initial=start, desc=f"train {run.path.name}", unit="step") as bar:
        while trainer.step < config.steps:
            trainer.advance()
            if trainer.step in logged:
                log.append(_log_line(trainer, data))
                bar.set_postfix(
                    loss=f"{log[-1]['val_loss']:.4f}", accuracy=f"{log[-1]['val_accuracy']:.4f}", refresh=False
                )
            if trainer.step in saved:
                write_atomic(run.training_log, "".join(json.dumps(line) + "\n" for line in log).encode())
                trainer.save(identity(log))
            bar.update()
    return time.perf_counter() - begun


def _log_line(trainer: Trainer, data: Batch) -> dict:
    val_loss, val_accuracy = trainer.evaluate(data)
    finite = math.isfinite(val_loss) and math.isfinite(trainer.loss) and bool(torch.isfinite(trainer.flat).all())
    if not finite:
        fix = "lower train.lr; the checkpoints before it are kept"
        raise UserError(f"training diverged by step {trainer.step}: loss or weights are no longer finite", fix)
    return {
        "step": trainer.step,
        "loss": trainer.loss,
        "val_loss": val_loss,
        "val_accuracy": val_accuracy,
        "lr": learning_rate(trainer.config, trainer.step),
        "weight_norm": float(trainer.flat.detach().norm()),
    }
