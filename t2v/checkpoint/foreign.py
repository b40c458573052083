"""Checkpoints of video-diffusion-pytorch become ours, without running anything that they contain."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import t2v
from t2v.checkpoint import Header, save_checkpoint
from t2v.config import DataSettings, DiffusionSettings, ModelSettings, Recipe, TextSettings, validate
from t2v.errors import CheckpointError
from t2v.model.lucidrains import ForeignState, state_from_trainer, unet_weights

# Its GIFs are written at 120 ms a frame.
FRAME_MS = 120.0


def import_checkpoint(
    source: Path, target: Path, *, averaged: bool = True, num_frames: int = 10, size: int = 64
) -> Header:
    """Convert a `.pt` file of video-diffusion-pytorch's Trainer, GaussianDiffusion or Unet3D.

    averaged: take the averaged weights of a Trainer file. num_frames, size: what it was trained on, which the file
    does not say. Raises CheckpointError where the file holds anything but such weights.
    """
    content = _open(source)
    trained = state_from_trainer(content, ema=averaged) if "ema" in content else ForeignState(content, None)
    settings, weights = unet_weights(trained.state)
    header = _header(settings, trained, step=content.get("step", 0), num_frames=num_frames, size=size)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(target, weights, header)
    return header


def _open(source: Path) -> Mapping[str, Any]:
    try:
        content = torch.load(source, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"there is no file {source}") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{source} cannot be opened as plain weights: {reason}") from None
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{source} holds a {type(content).__name__}, not the weights of a network")
    return content


def _header(settings: dict[str, Any], trained: ForeignState, *, step: int, num_frames: int, size: int) -> Header:
    cond_dim, channels = settings["cond_dim"], settings["channels"]
    if settings["out_dim"] not in (None, channels):
        raise CheckpointError(f"its output has {settings['out_dim']} channels for {channels} of the clips")
    model = {name: value for name, value in settings.items() if name in ModelSettings.model_fields}
    # Without a schedule in the file the original's default length is the best guess there is.
    diffusion = DiffusionSettings(num_timesteps=trained.num_timesteps or 1000)
    recipe = validate(
        Recipe,
        {
            "about": "imported from video-diffusion-pytorch",
            "data": DataSettings(size=size, num_frames=num_frames, channels=channels, flip_prob=0.0),
            # The original's own text conditioning: bert-base-cased, mean of all tokens after the first.
            "text": TextSettings(encoder="bert-base-cased", pooling="mean"),
            "model": model,
            "diffusion": diffusion,
        },
        source="the checkpoint",
    )
    return Header(
        t2v_version=t2v.__version__,
        recipe=recipe,
        cond_dim=cond_dim,
        frame_ms=FRAME_MS,
        step=int(step),
        num_clips=0,
    )
