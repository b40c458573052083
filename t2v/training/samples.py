"""The sample sheet: the same prompts and seeds drawn every so often, so that progress can be seen."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from einops import rearrange
from PIL import Image, ImageDraw
from torch import nn

from t2v.checkpoint.atomic import write_atomically
from t2v.config import GenerationSettings, Recipe
from t2v.data.video_files import write_clip
from t2v.model.text import TextFeatures
from t2v.sampling import build_diffusion, sample_clips, to_uint8

SAMPLE_STEPS = 20
SAMPLE_SEED = 0
LABEL_HEIGHT = 14
GAP = 2


def sample_settings(recipe: Recipe) -> GenerationSettings:
    """How the clips of a sheet are drawn: in few steps, and no more than the process has."""
    num_steps = min(SAMPLE_STEPS, recipe.diffusion.num_timesteps)
    return GenerationSettings(num_steps=num_steps, guidance_scale=2.0, sampler="ddim")


def draw_samples(
    network: nn.Module,
    recipe: Recipe,
    text: TextFeatures | None,
    *,
    num_clips: int,
    size: int,
    frame_ms: float,
    precision: str,
) -> np.ndarray:
    """One clip for each prompt. text: of n, or None for an unconditional model. Returns uint8 n f h w c.

    size: h and w
    """
    data = recipe.data
    steps = sample_clips(
        network,
        build_diffusion(recipe),
        text=text,
        num_clips=num_clips,
        shape=(data.channels, data.num_frames, size, size),
        seed=SAMPLE_SEED,
        settings=sample_settings(recipe),
        interval_ms=frame_ms,
        precision=precision,
    )
    return np.concatenate([to_uint8(step.x_t).numpy() for step in steps if step.is_last])


def write_sheet(folder: Path, step: int, clips: np.ndarray, prompts: Sequence[str], frame_ms: float) -> Path:
    """Write `step-N.png`, a row a prompt with its frames side by side, and `step-N.gif`, all clips moving at once.

    clips: uint8 n f h w c. Returns the PNG's path.
    """
    picture = folder / f"step-{step:08d}.png"
    sheet = contact_sheet(clips, prompts)
    write_atomically(picture, lambda path: sheet.save(path, format="PNG"))
    columns = next(n for n in range(1, len(clips) + 1) if n * n >= len(clips))
    blank = np.zeros((-len(clips) % columns, *clips.shape[1:]), np.uint8)
    grid = rearrange(np.concatenate([clips, blank]), "(r k) f h w c -> f (r h) (k w) c", k=columns)
    write_clip(picture.with_suffix(".gif"), grid, frame_ms=frame_ms, metadata=None)
    return picture


def contact_sheet(clips: np.ndarray, labels: Sequence[str]) -> Image.Image:
    """Frames side by side, a labelled row a clip. clips: uint8 n f h w c with 1, 3 or 4 channels."""
    _, num_frames, height, width, _ = clips.shape
    row_height = LABEL_HEIGHT + height + GAP
    sheet = Image.new("RGB", (num_frames * (width + GAP), len(clips) * row_height), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (clip, label) in enumerate(zip(clips, labels, strict=True)):
        draw.text((2, row * row_height + 1), label, fill="black")
        for column, frame in enumerate(clip):
            image = Image.fromarray(frame.squeeze(-1) if frame.shape[-1] == 1 else frame)
            mask = image if image.mode == "RGBA" else None
            sheet.paste(image, (column * (width + GAP), row * row_height + LABEL_HEIGHT), mask)
    return sheet
