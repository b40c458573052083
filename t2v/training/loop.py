"""The training loop: a generator that takes one optimizer step at a time and can stop and go on anywhere."""

import gc
import json
import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, count, takewhile
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor

import t2v
from t2v.checkpoint import Header, load_checkpoint, save_checkpoint
from t2v.checkpoint.atomic import write_tensors
from t2v.checkpoint.run_folder import RunFolder, StepFolder
from t2v.checkpoint.tree import flatten, unflatten
from t2v.config import DiffusionSettings
from t2v.data.words import most_frequent
from t2v.diffusion.balance import LossBalance
from t2v.diffusion.timesteps import LossSecondMoment
from t2v.errors import RunError
from t2v.model import Unet3D
from t2v.runtime import autocast
from t2v.sampling import build_diffusion
from t2v.training.batches import Batch, TrainingClips, draw_batch
from t2v.training.budget import BudgetKeeper, moved_end
from t2v.training.clip_threads import ClipThreads, best_shares
from t2v.training.ema import EMA
from t2v.training.optimizer import build_optimizer, learning_rate
from t2v.training.plan import Plan, save_plan
from t2v.training.processes import agreed, part_processes
from t2v.training.tensorboard import Events

LOGGED_STEPS = 2000  # a log has about this many lines, however long the run
# From 2**16 it takes 25 steps skipped in a row to get below: no scale would help any more.
MIN_LOSS_SCALE = 2.0**-8


@dataclass(frozen=True)
class Progress:
    """What one optimizer step did.

    step counts the steps taken; seconds is training time over all starts; smooth_loss is a running mean and
    step_rate the steps a second, both since this start. num_steps: of the whole run, as planned now.
    loss_scale: of the step after this one; None where losses are not scaled.
    skipped: the gradients overflowed in fp16, so that the weights were left as they are; loss and grad_norm may be no
    numbers then.
    """

    step: int
    num_steps: int
    loss: float
    learning_rate: float
    grad_norm: float
    seconds: float
    loss_scale: float | None = None
    skipped: bool = False
    smooth_loss: float = 0.0
    step_rate: float = 0.0
    saved: StepFolder | None = None
    sample_due: bool = False


class Training:
    """A run in progress: network, its averages, optimizer and how far it is.

    In fp16 small gradients vanish, so the loss is scaled up before they are taken and they are scaled down after. The
    scale is torch's: it starts at 2**16, doubles after 2000 good steps in a row and is halved by a step whose gradients
    overflow; that step is skipped. improved-diffusion kept a scale of its own, which starts at 2**20 and rises by
    2**0.001 with each good step; halving and skipping are the same. It also held a float16 copy of the weights beside
    the float32 ones, where here the weights are float32 and autocast makes the copies.
    """

    def __init__(
        self, run: RunFolder, plan: Plan, network: Unet3D, clips: TrainingClips, accelerator: Accelerator
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
        kept_on = torch.device("cpu") if settings.ema_device == "cpu" else None
        self.ema, *self.more_ema = (
            EMA(network, decay=decay, start=settings.ema_start, ramp=settings.ema_ramp, device=kept_on)
            for decay in (settings.ema_decay, *settings.more_ema_decays)
        )
        optimizer = build_optimizer(network.parameters(), settings, precision=plan.precision)
        self.network, self.optimizer = accelerator.prepare(network, optimizer)
        self._answer = self._side_by_side() or self._output
        # Switched off it leaves losses, gradients and steps as they are.
        self.scaler = torch.amp.GradScaler(accelerator.device.type, enabled=plan.precision == "fp16")
        process = plan.recipe.diffusion
        self.loss_history = _loss_history(process)
        self.events: Events | None = None  # while steps are taken, if they are asked for

    @property
    def global_batch(self) -> int:
        """Clips behind one optimizer step, over all processes and passes."""
        settings = self.plan.recipe.train
        return settings.batch_size * settings.accumulation * self.accelerator.num_processes

    def steps(self) -> Iterator[Progress]:
        """Train to the end of the plan. The caller may stop between two steps, and then calls `save`."""
        self.events = self._open_events()
        stream = self.clips.stream
        if stream is not None:
            stream.follow(self._coming_clips(), ahead=2 * self.plan.recipe.train.batch_size)
        try:
            yield from self._steps()
        finally:
            if stream is not None:
                stream.close()
            if self.events is not None:
                self.events.close()
                self.events = None

    def close(self) -> None:
        """Part from the other processes, if there are any; no step can be taken after it."""
        self.network = part_processes(self.accelerator, self.network)
        gc.collect()  # the wrapped network is part of a circle, and must be gone: see part_processes

    def _steps(self) -> Iterator[Progress]:
        settings = self.plan.recipe.train
        log_every = max(1, self.plan.num_steps // LOGGED_STEPS)
        first, seconds_before, smooth = self.step, self.seconds, None
        keeper = BudgetKeeper(self.plan, step=first, seconds=seconds_before)
        while self.step < self.plan.num_steps:
            started = time.perf_counter()
            progress = self.take_step()
            self.seconds += time.perf_counter() - started
            self._keep_to_budget(keeper)
            ended = self.step == self.plan.num_steps
            if self.step % log_every == 0 or ended or progress.skipped:
                self._log(progress)
            saved = self.save() if self.step % settings.save_every == 0 or ended else None
            if math.isfinite(progress.loss):
                smooth = progress.loss if smooth is None else 0.98 * smooth + 0.02 * progress.loss
            yield replace(
                progress,
                num_steps=self.plan.num_steps,
                seconds=self.seconds,
                smooth_loss=math.nan if smooth is None else smooth,
                step_rate=(self.step - first) / (self.seconds - seconds_before),
                saved=saved,
                sample_due=self.step % settings.sample_every == 0 or ended,
            )

    def _keep_to_budget(self, keeper: BudgetKeeper) -> None:
        end = keeper.look(self.plan, self.step, self.seconds)
        if end is None:
            return
        moved = moved_end(self.plan, self.step, agreed(end))
        if moved is not self.plan and self.accelerator.is_main_process:
            save_plan(self.run, moved)
        self.plan = moved

    def take_step(self) -> Progress:
        """One optimizer step on the batch of the present step, and nothing written.

        One that is skipped counts as a step, as its batch is spent, but no average moves: it would count the same
        weights twice.
        """
        rate = self._set_learning_rate()
        loss, seen = self._add_gradients()
        optimizer = self._inner_optimizer()
        self.scaler.unscale_(optimizer)
        max_norm = self.plan.recipe.train.max_grad_norm
        norm = float(self.accelerator.clip_grad_norm_(self.network.parameters(), max_norm))
        # One gradient that is no number makes the norm none, and is all that the scaler goes by.
        skipped = self.scaler.is_enabled() and not math.isfinite(norm)
        if not skipped and not (math.isfinite(loss) and math.isfinite(norm)):
            raise _come_apart(f"the loss is {loss} at step {self.step}", "a lower train.learning_rate")
        self.scaler.step(optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        scale = self.scaler.get_scale() if self.scaler.is_enabled() else None
        if scale is not None and scale < MIN_LOSS_SCALE:
            what = f"the gradients overflow fp16 at step {self.step} however the loss is scaled"
            raise _come_apart(what, "a lower train.learning_rate or train.precision=fp32")
        self.step += 1
        if not skipped:
            for ema in (self.ema, *self.more_ema):
                ema.update(self.accelerator.unwrap_model(self.network), self.step)
            if self.loss_history is not None:
                self.loss_history.update(seen[:, 0].long().tolist(), seen[:, 1].tolist())
        return Progress(self.step, self.plan.num_steps, loss, rate, norm, self.seconds, scale, skipped)

    def _set_learning_rate(self) -> float:
        stretch = self.plan.stretch_at(self.step)
        rate = learning_rate(self.plan.recipe.train, stretch, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _add_gradients(self) -> tuple[float, Tensor]:
        """Take the gradients of the present step over all its passes, scaled.

        Returns the mean loss, not scaled; and for the loss history, if there is one, the timestep and loss of each clip
        that is no still in the order of the global batch, n 2.
        """
        num_passes = self.plan.recipe.train.accumulation
        total = torch.zeros((), device=self.accelerator.device)
        seen: list[Tensor] = []
        for micro in range(num_passes):
            pairs = torch.full((self.plan.recipe.train.batch_size, 2), -1.0, device=self.accelerator.device)
            *others, final = self._batches(micro)
            for batch in (*others, final):
                last = micro == num_passes - 1 and batch is final
                # Gradients cross between processes only once a step.
                with nullcontext() if last else self.accelerator.no_sync(self.network):
                    losses = self.diffusion.losses(self._answer, batch.x0, batch.t, batch.noise, batch.text).total
                    weighed = losses
                    if self.loss_history is not None:
                        weighed = losses * self.loss_history.weights(batch.t).to(losses)
                        # The mean over one frame spreads more than that over many, and would tell of stills alone.
                        if batch.num_frames > 1 or self.plan.recipe.data.num_frames == 1:
                            pairs[: len(losses)] = torch.stack((batch.t.to(losses), losses.detach()), dim=1)
                    loss = batch.share * weighed.mean() / num_passes
                    self.accelerator.backward(self.scaler.scale(loss))
                total += loss.detach()
            if self.loss_history is not None:
                seen.append(self.accelerator.gather(pairs))
        known = torch.cat(seen).cpu() if seen else torch.zeros(0, 2)
        return float(self.accelerator.reduce(total, "mean")), known[known[:, 0] >= 0]

    def _output(self, x_t: Tensor, t: Tensor, text: dict[str, Tensor] | None) -> Tensor:
        """What the network says, computed in the run's precision and given as float32."""
        with autocast(self.plan.precision, self.accelerator.device):
            output: Tensor = self.network(x_t, t, text)
        return output.float()

    def _side_by_side(self) -> ClipThreads | None:
        """Threads that share the clips of a pass; None where that is not to be.

        A GPU takes all at once, several processes have the cores already, and compiled code belongs to the thread it
        was compiled in. Whoever has activations recomputed is short of memory: each thread has gradients of its own.
        """
        accelerator, num_cores = self.accelerator, torch.get_num_threads()
        if accelerator.device.type != "cpu" or accelerator.num_processes > 1 or self.plan.compiled:
            return None
        train = self.plan.recipe.train
        num_shares = best_shares(num_clips=train.batch_size, num_cores=num_cores)
        if num_shares == 1 or train.checkpoint_activations:
            return None
        return ClipThreads(self.network, self._output, num_shares=num_shares, num_cores=num_cores)

    def _places(self, micro: int) -> range:
        """Those of the global batch that this process draws in one pass."""
        batch_size = self.plan.recipe.train.batch_size
        first = (micro * self.accelerator.num_processes + self.accelerator.process_index) * batch_size
        return range(first, first + batch_size)

    def _coming_clips(self) -> Iterator[int]:
        """The clips that this process draws from the present step to the end of the plan, in order."""
        seed, num_passes = self.plan.recipe.train.seed, self.plan.recipe.train.accumulation
        for step in takewhile(lambda step: step < self.plan.num_steps, count(self.step)):
            for place in chain.from_iterable(map(self._places, range(num_passes))):
                yield self.clips.example(seed=seed, drawn_before=step * self.global_batch + place)[0]

    def _batches(self, micro: int) -> tuple[Batch, ...]:
        """What one pass of this process sees: its clips, and its stills as clips of one frame."""
        recipe = self.plan.recipe
        drawn = draw_batch(
            self.clips,
            seed=recipe.train.seed,
            step=self.step,
            places=self._places(micro),
            global_batch=self.global_batch,
            num_timesteps=recipe.diffusion.num_timesteps,
            flip_prob=recipe.data.flip_prob,
            drop_prob=recipe.text.drop_prob,
            probabilities=None if self.loss_history is None else self.loss_history.probabilities(),
            halved=self.step < self.plan.half_size_steps,
        )
        return tuple(batch.to(self.accelerator.device) for batch in drawn)

    def _log(self, progress: Progress) -> None:
        if not self.accelerator.is_main_process:
            return
        entry: dict[str, Any] = {
            "step": progress.step,
            "loss": _or_none(progress.loss),
            "learning_rate": progress.learning_rate,
            "grad_norm": _or_none(progress.grad_norm),
            "seconds": round(self.seconds, 3),
        }
        if progress.loss_scale is not None:
            entry |= {"loss_scale": progress.loss_scale, "skipped": progress.skipped}
        self.run.append_log(entry)
        if self.events is not None:
            self.events.add_line(entry)

    def _open_events(self) -> Events | None:
        if not (self.plan.recipe.train.tensorboard and self.accelerator.is_main_process):
            return None
        return Events(self.run.tensorboard, step=self.step, seconds=self.seconds, clips_per_step=self.global_batch)

    def save(self) -> StepFolder | None:
        """Write the whole state; only the main process does, and returns where."""
        if self.events is not None:
            self.events.flush()  # what is not taken again must not be lost with this process
        saved = self.run.save_step(self.step, self._write) if self.accelerator.is_main_process else None
        self.accelerator.wait_for_everyone()
        return saved

    def _write(self, folder: StepFolder) -> None:
        header = self.header()
        network = self.accelerator.unwrap_model(self.network)
        save_checkpoint(folder.weights, network.state_dict(), header)
        for path, ema in self._averages(folder):
            save_checkpoint(path, ema.kept.state_dict(), header)
        tensors, skeleton = flatten(self._inner_optimizer().state_dict())
        write_tensors(folder.optimizer, tensors)
        if self.loss_history is not None:
            write_tensors(folder.loss_history, self.loss_history.state())
        state = {"step": self.step, "seconds": self.seconds, "optimizer": skeleton, "scaler": self.scaler.state_dict()}
        folder.state.write_text(json.dumps(state))

    def _averages(self, folder: StepFolder) -> list[tuple[Path, EMA]]:
        """Every average with its file."""
        return [(folder.ema, self.ema), *((folder.more_ema(ema.decay), ema) for ema in self.more_ema)]

    @cached_property
    def _words(self) -> tuple[str, ...]:
        """Those of the captions, which a checkpoint keeps."""
        return most_frequent(caption for clip in self.plan.clips.values() for caption in clip["captions"])

    def header(self) -> Header:
        """What the checkpoint of this moment says of itself."""
        return Header(
            t2v_version=t2v.__version__,
            recipe=self.plan.recipe,
            half_size=self.plan.knows_half_size(self.step),
            cond_dim=self.plan.cond_dim,
            encoder_sha256=self.plan.encoder_sha256,
            frame_ms=self.plan.frame_ms,
            step=self.step,
            num_clips=sum(clip.get("num_clips", 1) for clip in self.plan.clips.values()),
            still_share=self.plan.picture_share or None,
            words=self._words,
            example_prompts=self.plan.prompts,
        )

    def resume(self, folder: StepFolder) -> None:
        """Go on from a saved step."""
        state = json.loads(folder.state.read_text())
        network = self.accelerator.unwrap_model(self.network)
        network.load_state_dict(load_checkpoint(folder.weights).weights)
        for path, ema in self._averages(folder):
            ema.kept.load_state_dict(load_checkpoint(path).weights)
        self._inner_optimizer().load_state_dict(unflatten(load_file(folder.optimizer), state["optimizer"]))
        if self.loss_history is not None:
            self.loss_history.load_state(load_file(folder.loss_history))
        if self.scaler.is_enabled():  # runs from before there was one saved none
            self.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds = state["step"], state["seconds"]
        if self.accelerator.is_main_process:
            self.run.rewind_log(self.step)

    def _inner_optimizer(self) -> torch.optim.Optimizer:
        inner: torch.optim.Optimizer = self.optimizer.optimizer
        return inner


def _loss_history(process: DiffusionSettings) -> LossSecondMoment | LossBalance | None:
    """What is remembered of the losses of a run, if how they count or which timesteps are drawn depends on that."""
    if process.timesteps == "loss_second_moment":
        return LossSecondMoment(process.num_timesteps)
    return LossBalance(process.num_timesteps) if process.weighting == "balanced" else None


def _come_apart(what: str, cure: str) -> RunError:
    return RunError(
        f"{what}: training has come apart; start again from the last save with {cure} (--fresh --init-from this run)"
    )


def _or_none(value: float) -> float | None:
    """JSON has no word for what is no number."""
    return value if math.isfinite(value) else None
