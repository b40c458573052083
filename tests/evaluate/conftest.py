"""Models that draw what a test puts into them, in place of a network that would have to be trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t2v.config import GenerationSettings
from t2v.data.worlds import FAMILIES, WorldClip, draw_world
from t2v.data.worlds.prompts import Prompt
from t2v.evaluation.judge import READERS
from t2v.service import GeneratedClip, GenerationService, GenerationStep

SIZE, FRAMES = 64, 10


@pytest.fixture
def service(make_checkpoint, fake_encoder) -> GenerationService:
    """A minute model of clips that the judge can read; nothing is drawn with it in good time."""
    data = {"size": SIZE, "num_frames": FRAMES}
    path = make_checkpoint(
        "model.safetensors", cond_dim=fake_encoder.dim, recipe={"data": data}, encoder_sha256="fake", num_clips=30
    )
    return GenerationService.load(path, device="cpu")


@pytest.fixture
def draw_instead(monkeypatch) -> Callable[..., list[GenerationSettings]]:
    """draw_instead(frames_of) makes every service draw frames_of(prompt, seed); returns the requests, one a clip."""

    def put_in(frames_of: Callable[[str, int], np.ndarray]) -> list[GenerationSettings]:
        requests: list[GenerationSettings] = []

        def generate_each(service: GenerationService, asked: list[GenerationSettings]) -> Any:
            for place, settings in enumerate(asked):
                requests.append(settings)
                yield GenerationStep(range(place, place + 1), 0, 2, None)
                frames = frames_of(settings.prompt, settings.seed)
                clip = GeneratedClip(frames, 125.0, settings, 0, 0.25, "model", "0", "cpu", "fp32")
                yield GenerationStep(range(place, place + 1), 1, 2, None, (clip,))

        monkeypatch.setattr(GenerationService, "generate_each", generate_each)
        return requests

    return put_in


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def true_clips(monkeypatch) -> dict[str, WorldClip]:
    """Clips of worlds by the prompts that ask for all that they show, which take the place of the frozen ones."""
    read = [name for name in FAMILIES if name in READERS]
    clips, prompts = {}, []
    for place, split in enumerate(("seen", "unseen-combinations", "unseen-wordings") * 3):
        clip = draw_world(3, place, size=SIZE, num_frames=FRAMES, families=read)
        kind = "two" if clip.facts["family"] == "shapes" and clip.facts["number"] == 2 else "one"
        prompts.append(Prompt(split, kind, f"world {place} <b>", clip.facts))
        clips[prompts[-1].caption] = clip
    monkeypatch.setattr("t2v.evaluate.questions.prompts", lambda: tuple(prompts))
    return clips
