"""Checkpoints of video-diffusion-pytorch become ours, without running anything that they contain."""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

import t2v
from t2v.checkpoint import HEADER_KEY, Header, save_checkpoint
from t2v.config import ModelSettings, Recipe
from t2v.errors import CheckpointError
from t2v.model.lucidrains import ForeignState, state_from_trainer, unet_weights
from t2v.reading import validate

CLASSIC_ENCODER = "bert-base-cased"
# Its GIFs are written at 120 ms a frame.
FRAME_MS = 120.0
# Without a schedule in the file the original's default length is the best guess there is.
DEFAULT_TIMESTEPS = 1000


def import_checkpoint(
    source: Path,
    target: Path,
    *,
    averaged: bool = True,
    num_frames: int = 10,
    size: int = 64,
    encoder: str = CLASSIC_ENCODER,
) -> Header:
    """Convert a file of video-diffusion-pytorch's Trainer, GaussianDiffusion or Unet3D: `.pt`, or `.safetensors`.

    averaged: take the averaged weights of a Trainer file. num_frames, size, encoder: what it was trained on and with,
    which the file does not say; the encoder's tokens after the first are averaged, as the original does.
    Raises CheckpointError where the file holds anything but such weights, and SettingsError where t2v cannot do what
    it was trained for.
    """
    content = _open(source)
    try:
        trained = _trained(content, averaged=averaged)
        settings, weights = unet_weights(trained.state)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from None
    told = {
        "data": {"size": size, "num_frames": num_frames, "channels": settings["channels"], "flip_prob": 0.0},
        "text": {"encoder": encoder, "pooling": "mean"},
    }
    header = _header(settings, trained, told, step=content.get("step", 0), source=source)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(target, weights, header)
    return header


def _open(source: Path) -> Mapping[str, Any]:
    if not source.is_file():
        raise CheckpointError(f"there is no file {source}")
    content = _open_safetensors(source) if source.suffix.lower() == ".safetensors" else _open_pickle(source)
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        raise CheckpointError(f"{source} holds a {type(content).__name__}, not the named weights of a network")
    return content


def _open_safetensors(source: Path) -> Any:
    try:
        with safe_open(source, framework="pt") as opened:
            if HEADER_KEY in (opened.metadata() or {}):
                raise CheckpointError(f"{source} is one that t2v wrote itself; it needs no import")
        return load_file(source)
    except SafetensorError as error:
        raise CheckpointError(f"{source} is not a whole safetensors file ({error})") from None


def _open_pickle(source: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old protocols
            return torch.load(source, map_location="cpu", weights_only=True)
    # What torch says to these is advice to load the file in a way that runs what is in it.
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{source} is damaged, or holds more than plain weights, which t2v does not open because it could run "
            "anything; save its state_dict() instead"
        ) from None
    # The reader of strangers' bytes can stumble anywhere.
    except Exception as error:
        raise CheckpointError(f"{source} is not a whole file of torch.save ({type(error).__name__})") from None


def _trained(content: Mapping[str, Any], *, averaged: bool) -> ForeignState:
    """The state dict out of a Trainer's file; any other content is taken for one itself."""
    is_trainers = any(isinstance(content.get(key), Mapping) for key in ("ema", "model"))
    return state_from_trainer(content if is_trainers else {"ema": content, "model": content}, ema=averaged)


def _header(
    settings: Mapping[str, Any], trained: ForeignState, told: Mapping[str, Any], *, step: Any, source: Path
) -> Header:
    channels = settings["channels"]
    if settings["out_dim"] != channels:
        raise CheckpointError(f"{source}: its output has {settings['out_dim']} channels, its clips have {channels}")
    recipe = {
        "about": "imported from video-diffusion-pytorch",
        **told,
        "model": {name: value for name, value in settings.items() if name in ModelSettings.model_fields},
        "diffusion": {"num_timesteps": trained.num_timesteps or DEFAULT_TIMESTEPS},
    }
    header = {
        "t2v_version": t2v.__version__,
        "recipe": validate(Recipe, recipe, source=str(source)),
        "cond_dim": settings["cond_dim"],
        "frame_ms": FRAME_MS,
        "step": step,
        "num_clips": 0,
    }
    return validate(Header, header, source=str(source))
