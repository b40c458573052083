"""The training loop: a generator that takes one optimizer step at a time and can stop and go on anywhere."""

import json
import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list
from safetensors.torch import load_file, save_file
from torch import nn

import t2v
from t2v.checkpoint import Header, load_checkpoint, save_checkpoint
from t2v.checkpoint.run_folder import RunFolder, StepFolder
from t2v.checkpoint.tree import flatten, unflatten
from t2v.data.words import words_of
from t2v.errors import RunError
from t2v.sampling import build_diffusion
from t2v.training.batches import Batch, TrainingClips, draw_batch
from t2v.training.ema import EMA
from t2v.training.optimizer import build_optimizer, learning_rate
from t2v.training.plan import Plan

LOGGED_STEPS = 2000  # a log has about this many lines, however long the run


@dataclass(frozen=True)
class Progress:
    """What one optimizer step did.

    step counts the steps taken; seconds is training time over all starts; smooth_loss is a running mean and
    step_rate the steps a second, both since this start.
    """

    step: int
    num_steps: int
    loss: float
    learning_rate: float
    grad_norm: float
    seconds: float
    smooth_loss: float = 0.0
    step_rate: float = 0.0
    saved: StepFolder | None = None
    sample_due: bool = False


def make_accelerator(precision: str, device: torch.device) -> Accelerator:
    """The engine of a run; it takes the processes and the device that `accelerate launch` gave, if any."""
    # Accelerate keeps the first precision of a process for good, but a process may train more than once.
    AcceleratorState._reset_state()
    mixed = {"fp32": "no", "bf16": "bf16"}[precision]
    return Accelerator(mixed_precision=mixed, cpu=device.type == "cpu", rng_types=[])


def agreed(value: Any) -> Any:
    """The main process's value in every process: what a clock decided must not differ between them."""
    values = [value]
    broadcast_object_list(values)
    return values[0]


class Training:
    """A run in progress: network, its average, optimizer and how far it is."""

    def __init__(
        self, run: RunFolder, plan: Plan, network: nn.Module, clips: TrainingClips, accelerator: Accelerator
    ) -> None:
        self.run = run
        self.plan = plan
        self.clips = clips
        self.accelerator = accelerator
        self.step = 0
        self.seconds = 0.0
        settings = plan.recipe.train
        self.diffusion = build_diffusion(plan.recipe)
        network = network.to(accelerator.device).train()
        self.ema = EMA(network, decay=settings.ema_decay, start=settings.ema_start)
        optimizer = build_optimizer(network.parameters(), settings)
        self.network, self.optimizer = accelerator.prepare(network, optimizer)

    @property
    def global_batch(self) -> int:
        """Clips behind one optimizer step, over all processes and passes."""
        settings = self.plan.recipe.train
        return settings.batch_size * settings.accumulation * self.accelerator.num_processes

    def steps(self) -> Iterator[Progress]:
        """Train to the end of the plan. The caller may stop between two steps, and then calls `save`."""
        settings = self.plan.recipe.train
        log_every = max(1, self.plan.num_steps // LOGGED_STEPS)
        first, seconds_before, smooth = self.step, self.seconds, None
        while self.step < self.plan.num_steps:
            started = time.perf_counter()
            progress = self.take_step()
            self.seconds += time.perf_counter() - started
            if self.step % log_every == 0 or self.step == self.plan.num_steps:
                self._log(progress)
            ended = self.step == self.plan.num_steps
            saved = self.save() if self.step % settings.save_every == 0 or ended else None
            smooth = progress.loss if smooth is None else 0.98 * smooth + 0.02 * progress.loss
            yield replace(
                progress,
                seconds=self.seconds,
                smooth_loss=smooth,
                step_rate=(self.step - first) / (self.seconds - seconds_before),
                saved=saved,
                sample_due=self.step % settings.sample_every == 0 or ended,
            )

    def take_step(self) -> Progress:
        """One optimizer step on the batch of the present step, and nothing written."""
        settings = self.plan.recipe.train
        stretch = self.plan.stretch_at(self.step)
        rate = learning_rate(settings, self.step - stretch.start, stretch.end - stretch.start)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        total = torch.zeros((), device=self.accelerator.device)
        for micro in range(settings.accumulation):
            last = micro == settings.accumulation - 1
            # Gradients cross between processes only once a step.
            with nullcontext() if last else self.accelerator.no_sync(self.network):
                batch = self._batch(micro)
                losses = self.diffusion.losses(self.network, batch.x0, batch.t, batch.noise, batch.text)
                loss = losses.mean() / settings.accumulation
                self.accelerator.backward(loss)
            total += loss.detach()
        norm = self.accelerator.clip_grad_norm_(self.network.parameters(), settings.max_grad_norm)
        value = float(self.accelerator.reduce(total, "mean"))
        if not math.isfinite(value) or not math.isfinite(float(norm)):
            raise RunError(
                f"the loss is {value} at step {self.step}: training has come apart; start again from the last save "
                "with a lower train.learning_rate (--fresh --init-from this run)"
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        self.ema.update(self.accelerator.unwrap_model(self.network), self.step)
        return Progress(self.step, self.plan.num_steps, value, rate, float(norm), self.seconds)

    def _batch(self, micro: int) -> Batch:
        recipe = self.plan.recipe
        share = micro * self.accelerator.num_processes + self.accelerator.process_index
        first = share * recipe.train.batch_size
        return draw_batch(
            self.clips,
            seed=recipe.train.seed,
            step=self.step,
            places=range(first, first + recipe.train.batch_size),
            global_batch=self.global_batch,
            num_timesteps=recipe.diffusion.num_timesteps,
            flip_prob=recipe.data.flip_prob,
            drop_prob=recipe.text.drop_prob,
        ).to(self.accelerator.device)

    def _log(self, progress: Progress) -> None:
        if self.accelerator.is_main_process:
            entry = {
                "step": progress.step,
                "loss": progress.loss,
                "learning_rate": progress.learning_rate,
                "grad_norm": progress.grad_norm,
                "seconds": round(self.seconds, 3),
            }
            self.run.append_log(entry)

    def save(self) -> StepFolder | None:
        """Write the whole state; only the main process does, and returns where."""
        saved = self.run.save_step(self.step, self._write) if self.accelerator.is_main_process else None
        self.accelerator.wait_for_everyone()
        return saved

    def _write(self, folder: StepFolder) -> None:
        header = self.header()
        network = self.accelerator.unwrap_model(self.network)
        save_checkpoint(folder.weights, network.state_dict(), header)
        save_checkpoint(folder.ema, self.ema.network.state_dict(), header)
        tensors, skeleton = flatten(self._inner_optimizer().state_dict())
        save_file(tensors, folder.optimizer)
        folder.state.write_text(json.dumps({"step": self.step, "seconds": self.seconds, "optimizer": skeleton}))

    def header(self) -> Header:
        """What the checkpoint of this moment says of itself."""
        captions = [caption for clip in self.plan.clips.values() for caption in clip["captions"]]
        return Header(
            t2v_version=t2v.__version__,
            recipe=self.plan.recipe,
            cond_dim=self.plan.cond_dim,
            encoder_sha256=self.plan.encoder_sha256,
            frame_ms=self.plan.frame_ms,
            step=self.step,
            num_clips=len(self.plan.clips),
            words=tuple(sorted({word for caption in captions for word in words_of(caption)})),
            example_prompts=self.plan.prompts,
        )

    def resume(self, folder: StepFolder) -> None:
        """Go on from a saved step."""
        state = json.loads(folder.state.read_text())
        network = self.accelerator.unwrap_model(self.network)
        network.load_state_dict(load_checkpoint(folder.weights).weights)
        self.ema.network.load_state_dict(load_checkpoint(folder.ema).weights)
        self._inner_optimizer().load_state_dict(unflatten(load_file(folder.optimizer), state["optimizer"]))
        self.step, self.seconds = state["step"], state["seconds"]
        if self.accelerator.is_main_process:
            self.run.rewind_log(self.step)

    def _inner_optimizer(self) -> torch.optim.Optimizer:
        inner: torch.optim.Optimizer = self.optimizer.optimizer
        return inner
