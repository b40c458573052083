"""The model in the box draws what it was asked for from its weights, and from nothing else."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from t2v.checkpoint import Checkpoint, box_path, load_checkpoint
from t2v.config import GenerationSettings
from t2v.runtime import generator
from t2v.service import GenerationService

MAX_BYTES = 15_000_000


@pytest.fixture(scope="module")
def box() -> Checkpoint:
    return load_checkpoint(box_path())


@pytest.fixture(scope="module")
def fireworks(box: Checkpoint) -> np.ndarray:
    return draw(box, "fireworks at night", seed=1)


def draw(checkpoint: Checkpoint, prompt: str, *, seed: int) -> np.ndarray:
    """A clip in few steps: float f h w c in [0, 1]."""
    settings = GenerationSettings(prompt=prompt, num_steps=12, seed=seed)
    (clip,) = [clip for step in GenerationService(checkpoint).generate(settings) for clip in step.finished]
    return clip.frames / 255


def roughness(clip: np.ndarray) -> float:
    """Mean difference of neighbouring pixels over the spread of the clip: about 0.1 for pictures, 1.1 for noise."""
    return float(np.abs(np.diff(clip, axis=2)).mean() / clip.std())


def shuffled(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same numbers in another order within each tensor."""
    mixed = {}
    for name, tensor in weights.items():
        order = torch.randperm(tensor.numel(), generator=generator("shuffle", name))
        mixed[name] = tensor.flatten()[order].view_as(tensor)
    return mixed


def test_the_file_is_small_and_says_what_it_can_do(box: Checkpoint) -> None:
    assert box.path.stat().st_size < MAX_BYTES
    assert "fireworks at night" in box.header.example_prompts
    assert {"fireworks", "night", "circle", "left"} <= set(box.header.words)


def test_fireworks_at_night_are_lights_on_a_dark_sky(fireworks: np.ndarray) -> None:
    assert fireworks.shape == (10, 64, 64, 3)
    assert np.median(fireworks) < 0.25
    assert fireworks.max() > 0.7
    assert roughness(fireworks) < 0.5


def test_with_shuffled_weights_the_picture_falls_apart(box: Checkpoint, fireworks: np.ndarray) -> None:
    apart = draw(replace(box, weights=shuffled(box.weights)), "fireworks at night", seed=1)
    assert not np.allclose(fireworks, apart, atol=0.2)
    assert roughness(apart) > 2 * roughness(fireworks) or apart.std() < 0.02


def test_a_first_clip_waits_for_no_library_that_it_does_not_need(tmp_path: Path) -> None:
    heavy = {"torch._dynamo", "sympy", "transformers", "accelerate", "imageio", "gradio", "pandas", "scipy"}
    program = (
        "import sys; from t2v.cli.main import main\n"
        f"sys.argv = ['t2v', 'generate', 'fireworks', '--steps', '1', '--out', {str(tmp_path / 'clip.gif')!r}]\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        f"print(sorted({heavy} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"
    assert (tmp_path / "clip.gif").is_file()
