"""Captions are encoded once for a run, whatever number of starts it takes."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from t2v.config import Recipe
from t2v.data.folder import load_clips
from t2v.data.pixels import Pixels
from t2v.data.video_files import write_clip
from t2v.model.text import TextEncoder
from t2v.reading import recipe_from_mapping
from t2v.training.batches import draw_batch
from t2v.training.captions import RunCaptions
from t2v.training.order import clip_index

NUM_DRAWN = 3000
CLIPS = SimpleNamespace(records=[SimpleNamespace(captions=("a cat", "one cat")), SimpleNamespace(captions=("a dog",))])


@pytest.fixture
def read(fake_encoder: Any, tmp_path: Path) -> Callable[..., list[str]]:
    """read(clips, setting=value) starts once more; returns the captions that had to be encoded for it."""

    def start(clips: Any = CLIPS, *, with_tokens: bool = False, **text: str) -> list[str]:
        fake_encoder.read.clear()
        recipe = recipe_from_mapping({"text": text, "model": {"token_pooling": with_tokens}})
        captions = RunCaptions.read(clips, recipe, lambda line: None, kept=tmp_path / "captions.safetensors")
        encoded = list(fake_encoder.read)
        assert captions.pooled is not None
        expected = torch.cat([fake_encoder.encode([text]).pooled for text in captions.texts])
        assert torch.equal(captions.pooled, expected)
        tokens = list(captions.tokens())
        assert len(tokens) == (len(captions.texts) if with_tokens else 0)
        for caption, kept in zip(captions.texts, tokens, strict=False):
            torch.testing.assert_close(kept.float(), fake_encoder.encode([caption]).tokens[0], atol=1e-3, rtol=1e-3)
        captions.keep(tmp_path / "captions.safetensors")
        return encoded

    return start


def test_a_second_start_encodes_nothing(read: Callable[..., list[str]]) -> None:
    assert read() == ["a cat", "a dog", "one cat"]
    assert read() == []


def test_tokens_are_kept_too_where_the_network_reads_them(
    read: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read()
    assert len(read(with_tokens=True)) == 3  # the file and the cache of before have none
    assert read(with_tokens=True) == read() == []
    (tmp_path / "captions.safetensors").unlink()
    assert read(with_tokens=True) == []  # of the cache
    monkeypatch.setenv("T2V_CACHE", str(tmp_path / "other"))
    assert read(with_tokens=True) == []  # of the run's file


def test_encoding_many_tells_how_far_it_is(fake_encoder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2v.training.telling.TELL_EVERY_S", -1)
    said: list[str] = []
    for expected in (["1 of 3", "2 of 3", "3 of 3"], []):  # the second time all are kept
        said.clear()
        RunCaptions.read(CLIPS, Recipe(), said.append)
        assert [line.split(" captions")[0] for line in said if "captions encoded" in line] == expected


def test_other_captions_are_encoded_anew(read: Callable[..., list[str]]) -> None:
    read()
    assert read(SimpleNamespace(records=[SimpleNamespace(captions=("a bird",))])) == ["a bird"]


@pytest.mark.parametrize("lost", ["the file of the run", "the cache"])
def test_either_the_run_or_the_cache_suffices(
    read: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    read()
    if lost == "the cache":
        monkeypatch.setenv("T2V_CACHE", str(tmp_path / "other"))
    else:
        (tmp_path / "captions.safetensors").unlink()
    assert read() == []


def test_another_run_encodes_only_the_captions_that_are_new(read: Callable[..., list[str]], tmp_path: Path) -> None:
    read()
    (tmp_path / "captions.safetensors").unlink()
    more = [*CLIPS.records, SimpleNamespace(captions=("a bird",))]
    assert read(SimpleNamespace(records=more)) == ["a bird"]


def test_what_was_cut_is_said_at_every_start(fake_encoder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fake_encoder.encode

    def cutting(texts: list[str]) -> Any:
        return whole(texts)._replace(truncated=torch.tensor([text == "a dog" for text in texts]))

    monkeypatch.setattr(fake_encoder, "encode", cutting)
    for _ in range(2):
        said: list[str] = []
        RunCaptions.read(CLIPS, Recipe(), said.append)
        assert [line for line in said if "only the first" in line and "a dog" in line]


@pytest.mark.parametrize("name", ["fingerprint", "tokenizer_sha256", "pooling", "max_tokens"])
def test_features_of_another_encoder_are_not_taken(
    read: Callable[..., list[str]], fake_encoder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    read()
    (tmp_path / "captions.safetensors").unlink()
    monkeypatch.setattr(fake_encoder, name, "other")
    assert len(read()) == 3


def test_features_of_another_precision_are_not_taken(read: Callable[..., list[str]]) -> None:
    assert len(read()) == 3
    assert len(read(encoder_precision="int8")) == 3
    assert len(read(encoder_precision="nf4")) == 3
    assert read() == read(encoder_precision="int8") == []


def test_the_encoder_is_loaded_in_the_precision_of_the_recipe(
    read: Callable[..., list[str]], fake_encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(TextEncoder, "load", lambda name, **options: asked.append(options["precision"]) or fake_encoder)
    read(encoder_precision="nf4")
    read()
    assert asked == ["nf4", "fp32"]


def test_folders_named_by_class_train_on_their_words_with_a_tenth_of_the_clips_without(
    fake_encoder: Any, tmp_path: Path
) -> None:
    words = {"cat": "cat", "ApplyEyeMakeup": "apply eye makeup"}
    for name in ["cat/1.gif", "cat/2.gif", "ApplyEyeMakeup/IMG_0001.gif"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        frames = np.random.default_rng(len(name)).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
        write_clip(tmp_path / name, frames, frame_ms=100, metadata=None)
    clips = load_clips(tmp_path, Pixels(num_frames=2, size=8, channels=3, background="white", fit="crop"))
    source = RunCaptions.read(clips, Recipe(), lambda line: None).training_clips(clips)

    drawn = {"seed": 0, "step": 0, "places": range(NUM_DRAWN), "global_batch": NUM_DRAWN, "num_timesteps": 10}
    text = draw_batch(source, **drawn, flip_prob=0.5, drop_prob=Recipe().text.drop_prob)[0].text
    assert text is not None
    assert 0.08 < text["is_null"].float().mean() < 0.12
    features = {folder: fake_encoder.encode([said]).pooled[0] for folder, said in words.items()}
    for place in (~text["is_null"]).nonzero().flatten().tolist():
        record = clips.records[clip_index(3, seed=0, drawn_before=place)]
        assert torch.equal(text["pooled"][place], features[record.path.parent.name])


def test_a_damaged_file_is_passed_over(
    read: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read()
    monkeypatch.setenv("T2V_CACHE", str(tmp_path / "other"))
    path = tmp_path / "captions.safetensors"
    path.write_bytes(path.read_bytes()[:40])
    assert len(read()) == 3


def test_weights_and_empty_captions_reach_the_draws(fake_encoder: Any, tmp_path: Path) -> None:
    for name in ("a.gif", "b.gif"):
        write_clip(tmp_path / name, np.zeros((2, 8, 8, 3), dtype=np.uint8), frame_ms=100, metadata=None)
    (tmp_path / "metadata.csv").write_text("file,text,weight\na,one,3\na,,1\nb,two,1\nb,one,1\n")
    clips = load_clips(tmp_path, Pixels(num_frames=2, size=8, channels=3, background="white", fit="crop"))
    captions = RunCaptions.read(clips, Recipe(), lambda line: None)
    source = captions.training_clips(clips)
    assert captions.texts == ("one", "two")
    assert (list(source.captions), dict(source.weights)) == ([(0, -1), (1, 0)], {0: (3.0, 1.0)})
