"""Muon, or AdamW, plain or with 8-bit states, and the learning rate of every step."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn

from t2v.config import TrainSettings
from t2v.errors import SettingsError
from t2v.training.muon import Muon
from t2v.training.plan import Stretch


def build_optimizer(
    parameters: Iterable[nn.Parameter], settings: TrainSettings, *, precision: str = "fp32"
) -> torch.optim.Optimizer:
    """The optimizer that the settings name; in bf16 Muon multiplies its matrices in that, too.

    Raises SettingsError where bitsandbytes cannot be used.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "muon":
        rounds_in = torch.bfloat16 if precision == "bf16" else torch.float32
        return Muon(trained, lr=rate, weight_decay=decay, rounds_in=rounds_in)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(trained, lr=rate, betas=(0.9, 0.99), weight_decay=decay)
    try:
        import bitsandbytes
    except ImportError as error:
        raise SettingsError(f"train.optimizer adamw8bit needs bitsandbytes ({error}); adamw works") from None
    optimizer: torch.optim.Optimizer = bitsandbytes.optim.AdamW8bit(
        trained, lr=rate, betas=(0.9, 0.99), weight_decay=decay
    )
    return optimizer


def learning_rate(settings: TrainSettings, stretch: Stretch, step: int) -> float:
    """The rate of a step in the stretch: a linear rise over the warm-up, then the decay to 0 at the end."""
    warmup = warmup_steps(settings, stretch)
    if step < stretch.start + warmup:
        return settings.learning_rate * (step - stretch.start + 1) / (warmup + 1)
    return settings.learning_rate * DECAYS[settings.decay](stretch.done(step, warmup=warmup))


def warmup_steps(settings: TrainSettings, stretch: Stretch) -> int:
    """Steps over which the rate rises: at most a fifth of those planned at first."""
    return min(settings.warmup_steps, (stretch.end - stretch.start) // 5)


DECAYS: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear": lambda done: 1 - done,
}
