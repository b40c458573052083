"""Real clips: which are looked at, how probable they are, and what drawn ones are held against."""

import math
from statistics import stdev

import numpy as np
import pytest
import torch
from PIL import Image

from t2v.config import GenerationSettings
from t2v.data.split import is_held_out
from t2v.data.video_files import write_clip
from t2v.data.worlds import draw_world
from t2v.errors import DatasetError, SettingsError
from t2v.evaluate.likelihood import Likelihood, measure_likelihood, unmeasured
from t2v.evaluate.likeness import likeness
from t2v.evaluate.real import RealClips, RealData, read_real
from t2v.evaluate.request import EvaluationRequest
from t2v.evaluate.run import Evaluation
from t2v.evaluate.text import lines_of
from t2v.service import GenerationService

RECIPE = {"data": {"size": 16, "num_frames": 4}, "diffusion": {"loss": "l2"}}


def worlds(start, number, *, size=32):
    return [
        draw_world(7, index, size=size, families=("fireworks", "suns")).frames for index in range(start, start + number)
    ]


@pytest.fixture(scope="module")
def known():
    return worlds(0, 40)


@pytest.fixture(scope="module")
def unknown():
    return worlds(40, 40)


@pytest.fixture
def folder(tmp_path):
    """Thirty short clips of noise with captions."""
    path = tmp_path / "clips"
    path.mkdir()
    for index in range(30):
        frames = np.random.default_rng(index).integers(0, 256, (5, 16, 16, 3), np.uint8)
        write_clip(path / f"{index:02d}.gif", frames, frame_ms=100, metadata=None)
        (path / f"{index:02d}.txt").write_text(f"clip {index}\nanother caption\n")
    return path


@pytest.fixture
def model(make_checkpoint, fake_encoder):
    """model(recipe) loads a minute model of 4 frames of 16 pixels."""

    def make(num_timesteps=1000, prediction="eps", **data):
        diffusion = RECIPE["diffusion"] | {"num_timesteps": num_timesteps, "prediction": prediction}
        recipe = {"data": RECIPE["data"] | data, "diffusion": diffusion}
        path = make_checkpoint("small.safetensors", cond_dim=fake_encoder.dim, recipe=recipe, num_clips=30)
        return GenerationService.load(path, device="cpu")

    return make


def request(**choices):
    return EvaluationRequest(settings=GenerationSettings(num_steps=2, seed=0), **choices)


def real(service, **choices):
    asked = request(**choices)
    used = service.resolve(asked.settings.model_copy(update={"prompt": "x"}))
    return list(read_real(service, asked, used, cache=None, say=lambda line: None))[-1]


def as_data(known, held_out, *, is_trained_on=False):
    captions = [""] * 100
    clips = (RealClips(some, captions[: len(some)]) for some in (held_out, known))
    return RealData(*clips, is_trained_on=is_trained_on, about="")


# Which clips.


def test_held_out_clips_are_those_that_training_held_out(model, folder):
    found = real(model(hold_out=0.3), clips=folder)
    assert not found.is_trained_on
    assert 0 < len(found.held_out) < 30 and len(found.held_out) + len(found.known) == 30
    assert not set(found.held_out.captions) & set(found.known.captions)
    from t2v.data.folder import scan_folder

    held_out = [clip.captions[0] for clip in scan_folder(folder).clips if is_held_out(clip.sha256, 0.3)]
    assert sorted(found.held_out.captions) == sorted(held_out)


def test_where_none_was_held_out_that_is_said(model, folder):
    found = real(model(), clips=folder)
    assert found.is_trained_on and "trained on: none that moves was held out" in found.about
    assert len(found.held_out) == len(found.known) == 30


def test_a_folder_of_others_is_what_was_not_trained_on(model, folder, tmp_path):
    others = tmp_path / "others"
    others.mkdir()
    (folder / "03.gif").rename(others / "03.gif")
    found = real(model(), clips=folder, held_out=others)
    assert not found.is_trained_on
    assert (len(found.held_out), len(found.known)) == (1, 29)


def test_a_folder_of_others_in_which_nothing_moves_is_refused(model, folder, tmp_path):
    others = tmp_path / "others"
    others.mkdir()
    Image.new("RGB", (16, 16)).save(others / "still.png")
    with pytest.raises(DatasetError, match=r"no clip of .*others is longer than a still"):
        real(model(), clips=folder, held_out=others)


def test_clips_are_seen_as_training_sees_them(model, folder):
    found = real(model(), clips=folder)
    assert found.known.frames[0].shape == (4, 16, 16, 3)
    windows = real(model(fps=10.0), clips=folder)
    assert len(windows.known) == 2 * 30  # five frames at their own rate: from the first on, and up to the last
    assert len(windows.held_out) == 30


def test_fewer_clips_are_some_of_more(model, folder):
    few, more = (real(model(), clips=folder, num_held_out=number).held_out.captions for number in (5, 12))
    assert len(few) == 5 and few == more[:5]


def test_worlds_take_the_place_of_a_folder(model):
    found = real(model(), num_held_out=6, num_known=9, families=("fireworks",))
    assert (len(found.held_out), len(found.known)) == (6, 9)
    assert found.held_out.frames[0].shape == (4, 16, 16, 3)
    assert "of fireworks" in found.about and "as if the model were trained on those" in found.about
    assert found.held_out.captions == real(model(), num_held_out=6, families=("fireworks",)).held_out.captions


def test_what_cannot_be_had_is_refused(model, folder):
    with pytest.raises(SettingsError, match="name a folder of clips with --clips"):
        real(model(num_frames=3))
    empty = folder.parent / "stills"
    empty.mkdir()
    write_clip(empty / "one.gif", np.zeros((1, 16, 16, 3), np.uint8), frame_ms=100, metadata=None)
    with pytest.raises(DatasetError, match="give clips that move"):
        real(model(), clips=empty)


# How probable they are.


def measured(service, clips, *, known=None, seed=0):
    found = unmeasured(service.diffusion, len(clips))
    known = clips if known is None else known
    assert sum(measure_likelihood(found, service, clips, known, seed)) == len(clips)
    return found


@pytest.fixture
def silent(model, monkeypatch):
    """A model that says nothing: its noise is always 0."""
    service = model()
    monkeypatch.setattr(service.network, "forward", lambda x, t, text=None: torch.zeros_like(x))
    return service


def test_the_loss_of_a_model_that_says_nothing_is_that_of_the_noise(silent, unknown):
    clips = RealClips([frames[:4, :16, :16] for frames in unknown[:8]], [""] * 8)
    levels = measured(silent, clips).levels
    assert [level.loss for level in levels] == pytest.approx([1.0] * 10, abs=0.05)
    assert [level.signal for level in levels] == sorted((level.signal for level in levels), reverse=True)
    # It takes what is left of the clip, with the noise, for the clip: x_t / alpha.
    for level in levels[:5]:
        assert level.x0_error == pytest.approx((1 - level.signal**2) / level.signal**2, rel=0.1)


def test_answers_are_also_mixed_with_what_was_shown_and_asked_for_once(model, unknown, monkeypatch):
    """A network that says grey of everything: mixed with what it was shown it has that to say of cleaner timesteps."""
    monkeypatch.setattr("t2v.evaluate.likelihood.NUM_STRATA", 4)
    service, asked = model(prediction="x0"), []

    def grey(x, t, text=None):
        asked.append(len(x))
        return torch.zeros_like(x)

    monkeypatch.setattr(service.network, "forward", grey)
    clips = RealClips([frames[:4, :16, :16] for frames in unknown[:8]], [""] * 8)
    found = measured(service, clips)
    assert asked == [4] + 2 * (9 + 10) * [4]  # to learn its own error; then the bound and the levels, four at a time
    assert found.mean_mixed_bits < 20 < found.mean_bits
    none_known = measured(service, clips, known=RealClips([], []))
    assert none_known.mixed_bits == found.mixed_bits
    dark = RealClips([np.full_like(frames, 128) for frames in clips.frames], clips.captions)
    assert measured(service, clips, known=dark).mean_mixed_bits > found.mean_mixed_bits  # taken for exact


def test_every_clip_counts_alike_however_they_are_grouped():
    found = Likelihood([10], [0.9], 5, sizes=[4, 1], bits=[1.0, 6.0], mixed_bits=[2.0, 12.0])
    found.losses, found.x0_errors = [[0.1], [0.6]], [[1.0], [6.0]]
    assert (found.num_clips, found.mean_bits, found.mean_mixed_bits) == (5, 2.0, 4.0)
    assert (found.levels[0].loss, found.levels[0].x0_error) == (pytest.approx(0.2), 2.0)
    assert found.standard_error == pytest.approx(math.sqrt(2 * (4**2 + 4**2)) / 5)
    even = Likelihood([10], [0.9], 8, sizes=[4, 4], bits=[1.0, 6.0])
    assert even.standard_error == pytest.approx(stdev(even.bits) / math.sqrt(2))


def test_equal_seeds_give_equal_figures_whatever_comes_after(model, unknown, monkeypatch):
    monkeypatch.setattr("t2v.evaluate.likelihood.NUM_STRATA", 4)
    service = model()
    clips = RealClips([frames[:4, :16, :16] for frames in unknown[:8]], ["a", ""] * 4)
    whole, again, other = (measured(service, clips, seed=seed) for seed in (0, 0, 1))
    assert whole.as_dict() == again.as_dict()
    assert whole.bits != other.bits
    assert measured(service, clips.first(4)).bits == whole.bits[:1]
    assert math.isfinite(whole.mean_bits) and whole.standard_error > 0


def test_the_estimate_agrees_with_the_whole_bound(model, unknown, monkeypatch):
    clips = RealClips([frames[:4, :16, :16] for frames in unknown[:8]], [""] * 8)
    service = model(num_timesteps=60)
    estimate = measured(service, clips)
    monkeypatch.setattr("t2v.evaluate.likelihood.NUM_STRATA", 30)
    assert measured(service, clips).mean_bits == pytest.approx(estimate.mean_bits, rel=0.1)


# How like them drawn ones are.


def test_clips_of_training_are_found_to_be_copies_and_new_ones_are_not(known, unknown):
    fresh = worlds(80, 40)
    copied = likeness(known[:20], as_data(known, unknown), mirrored=False)
    new = likeness(fresh, as_data(known, unknown), mirrored=False)
    assert copied.copies.num_near == 20 and copied.copies.share == 1.0
    assert new.copies.share < 0.15
    assert copied.copies.pairs[0].distance == 0
    assert np.array_equal(copied.copies.pairs[0].drawn, copied.copies.pairs[0].known)


def test_a_mirror_image_is_a_copy_where_training_mirrors(known, unknown):
    turned = [frames[:, :, ::-1] for frames in known[:10]]
    shares = [likeness(turned, as_data(known, unknown), mirrored=mirrored).copies.share for mirrored in (True, False)]
    assert shares[0] == 1.0 and shares[1] < 0.5


def test_motion_of_clips_with_alpha_is_that_of_what_is_seen(known, unknown):
    def clear(clips):
        """Of different colours behind an alpha of 0."""
        return [np.concatenate([frames, np.zeros_like(frames[..., :1])], axis=-1) for frames in clips]

    found = likeness(clear(known[:8]), as_data(clear(known), clear(unknown)), mirrored=False)
    assert found.motion == (0, 0)


def test_real_clips_lie_at_the_floor_and_noise_does_not(known, unknown):
    fresh = worlds(80, 40)
    noise = list(np.random.default_rng(0).integers(0, 256, (40, 10, 32, 32, 3), np.uint8))
    good, bad = (likeness(clips, as_data(known, unknown), mirrored=True) for clips in (fresh, noise))
    assert good.frechet.drawn < 2 * good.frechet.real
    for name in ("frechet", "kernel"):
        assert getattr(bad, name).drawn > 5 * max(getattr(good, name))
    assert bad.motion.drawn > 5 * bad.motion.real
    assert good.motion.real == bad.motion.real


def test_what_cannot_be_told_is_not_told(known):
    trained_on = likeness(known, as_data(known, known, is_trained_on=True), mirrored=True)
    assert trained_on.copies is None and trained_on.frechet.real is None
    assert "no clip was held out" in trained_on.as_dict()["memorised"]["unknown"]
    none = likeness(known[:5], as_data([], known), mirrored=True)
    assert none.copies is None and "no clip of training is known" in none.no_copies
    few = likeness(known[:5], as_data(known, known[20:25]), mirrored=True)
    assert few.copies is None and "5 clips were held out" in few.no_copies
    stills = [frames[:1] for frames in known]
    still = likeness(stills, as_data(stills, stills), mirrored=False)
    assert still.motion is None and still.flicker is None


# All together.


def test_a_folder_is_evaluated_from_clips_to_lines(model, folder, tmp_path):
    asked = request(measures=("likelihood", "likeness"), clips=folder)
    with Evaluation(model(hold_out=0.3), asked, cache=tmp_path / "cache", say=lambda line: None) as evaluation:
        for _ in evaluation.steps():
            pass
        report = evaluation.report()
    told, lines = report.as_dict(), "\n".join(lines_of(report))
    number = told["likelihood"]["clips"]
    assert not report.is_partial and "alignment" not in told
    assert told["likeness"]["clips"] == number > 2
    assert "that training held out (30.0%)" in lines and "bits per dimension" in lines and "motion energy" in lines


def test_only_clips_with_a_caption_are_asked_for(model, folder, tmp_path):
    for text in sorted(folder.glob("*.txt"))[:28]:
        text.write_text("\n")
    asked = request(measures=("likeness",), clips=folder)
    with Evaluation(model(), asked, cache=None, say=lambda line: None) as evaluation:
        for _ in evaluation.steps():
            pass
        report = evaluation.report()
    assert report.likeness.num_clips == 2
    assert "likeness looks at the 2 of 30 real clips that have a caption" in report.notes
