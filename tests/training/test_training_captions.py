"""Captions are encoded once for a run, whatever number of starts it takes."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from t2v.config import Recipe
from t2v.training.captions import RunCaptions

CLIPS = SimpleNamespace(records=[SimpleNamespace(captions=("a cat", "one cat")), SimpleNamespace(captions=("a dog",))])


@pytest.fixture
def read(fake_encoder: Any, tmp_path: Path) -> Callable[..., list[str]]:
    """read(clips) starts once more; returns the captions that had to be encoded for it."""

    def start(clips: Any = CLIPS) -> list[str]:
        fake_encoder.read.clear()
        captions = RunCaptions.read(clips, Recipe(), lambda line: None, kept=tmp_path / "captions.safetensors")
        encoded = list(fake_encoder.read)
        assert captions.pooled is not None
        expected = torch.cat([fake_encoder.encode([text]).pooled for text in captions.texts])
        assert torch.equal(captions.pooled, expected)
        captions.keep(tmp_path / "captions.safetensors")
        return encoded

    return start


def test_a_second_start_encodes_nothing(read: Callable[..., list[str]]) -> None:
    assert read() == ["a cat", "a dog", "one cat"]
    assert read() == []


def test_other_captions_are_encoded_anew(read: Callable[..., list[str]]) -> None:
    read()
    assert read(SimpleNamespace(records=[SimpleNamespace(captions=("a bird",))])) == ["a bird"]


@pytest.mark.parametrize("name", ["fingerprint", "pooling", "max_tokens"])
def test_features_of_another_encoder_are_not_taken(
    read: Callable[..., list[str]], fake_encoder: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    read()
    monkeypatch.setattr(fake_encoder, name, "other")
    assert len(read()) == 3


def test_a_damaged_file_is_passed_over(read: Callable[..., list[str]], tmp_path: Path) -> None:
    read()
    path = tmp_path / "captions.safetensors"
    path.write_bytes(path.read_bytes()[:40])
    assert len(read()) == 3
