"""Muon, or AdamW, plain or with 8-bit states, and the learning rate of every step."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn

from t2v.config import TrainSettings
from t2v.errors import SettingsError
from t2v.training.muon import Muon


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


def learning_rate(settings: TrainSettings, step: int, num_steps: int) -> float:
    """The rate of step `step` in [0, num_steps): a linear rise over the warm-up, then the decay to 0 at the end."""
    warmup = min(settings.warmup_steps, num_steps // 5)
    if step < warmup:
        return settings.learning_rate * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, num_steps - warmup)
    return settings.learning_rate * DECAYS[settings.decay](done)


DECAYS: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear": lambda done: 1 - done,
}
