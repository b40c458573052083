"""What is drawn at a place depends on nothing but (seed, step, place)."""

import pytest
import torch

from t2v.training.batches import MappedClips, TrainingClips, clip_index, draw_batch, to_float

SETTINGS = {"num_timesteps": 100, "flip_prob": 0.5, "drop_prob": 0.25}


def clips(num_clips: int = 6, *, keeps_side: bool = False) -> TrainingClips:
    """Clips whose left half is black and right half white, with two captions each."""
    frames = torch.zeros(num_clips, 2, 4, 4, 3, dtype=torch.uint8)
    frames[:, :, :, 2:] = 255
    pooled = torch.arange(2.0 * num_clips)[:, None]
    captions = [(2 * k, 2 * k + 1) for k in range(num_clips)]
    return TrainingClips(frames, captions, [keeps_side] * (2 * num_clips), pooled)


def draw(source: TrainingClips, places: range, *, seed: int = 0, step: int = 3, **changed: float):
    return draw_batch(source, seed=seed, step=step, places=places, global_batch=8, **{**SETTINGS, **changed})


def test_a_batch_is_the_same_however_it_is_split_over_processes_and_passes() -> None:
    whole = draw(clips(), range(8))
    parts = [draw(clips(), range(0, 2)), draw(clips(), range(2, 8))]
    for name in ("x0", "noise", "t"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(part, name) for part in parts]))
    for key in ("pooled", "is_null"):
        assert torch.equal(whole.text[key], torch.cat([part.text[key] for part in parts]))


def test_a_batch_is_what_it_has_always_been() -> None:
    """Runs go on with other versions than they were started with: what a place draws is never to change."""
    batch = draw(clips(), range(2, 6), seed=7)
    assert batch.t.tolist() == [6, 69, 31, 44]
    assert batch.text["pooled"][:, 0].tolist() == [4, 0, 7, 11]
    assert batch.text["is_null"].tolist() == [False] * 4
    assert batch.x0[:, 0, 0, 0, 0].tolist() == [1, -1, -1, -1]
    noise = [0.93203, -0.09154, 1.04017, -1.12367]
    assert batch.noise[:, 0, 0, 0, 0].tolist() == pytest.approx(noise, abs=1e-4)


def test_mapped_clips_are_drawn_as_those_in_memory() -> None:
    source = clips()
    mapped = TrainingClips(MappedClips(list(source.frames.numpy())), source.captions, source.keeps_side, source.pooled)
    assert torch.equal(draw(mapped, range(8)).x0, draw(source, range(8)).x0)


@pytest.mark.parametrize("change", [{"seed": 1}, {"step": 4}])
def test_another_seed_or_step_draws_other_noise(change: dict[str, int]) -> None:
    assert not torch.equal(draw(clips(), range(8)).noise, draw(clips(), range(8), **change).noise)


def test_an_epoch_shows_every_clip_once_and_each_epoch_in_another_order() -> None:
    epochs = [[clip_index(20, seed=0, drawn_before=20 * epoch + k) for k in range(20)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_clip_is_flipped_whole_or_not_at_all() -> None:
    batches = [draw(clips(), range(8), step=step) for step in range(8)]
    x0 = torch.cat([batch.x0 for batch in batches])
    flipped = x0[:, 0, :, 0, 0] > 0  # b f: white on the left
    assert (flipped.all(dim=1) | (~flipped).all(dim=1)).all()
    assert 0.3 < flipped[:, 0].float().mean() < 0.7


def test_a_caption_that_names_a_side_is_never_flipped() -> None:
    batches = [draw(clips(keeps_side=True), range(8), step=step, flip_prob=1.0, drop_prob=0.0) for step in range(4)]
    assert all((batch.x0[..., 0] < 0).all() for batch in batches)


def test_text_is_dropped_clip_by_clip_at_the_rate_asked_for() -> None:
    dropped = torch.cat([draw(clips(), range(8), step=step).text["is_null"] for step in range(100)])
    assert 0.2 < dropped.float().mean() < 0.3
    per_batch = dropped.view(100, 8).float().mean(dim=1)
    assert per_batch.unique().numel() > 3


def test_a_clip_meets_only_its_own_captions_and_each_of_them() -> None:
    source, met = clips(), set()
    for step in range(40):
        batch = draw(source, range(8), step=step, drop_prob=0.0)
        for place in range(8):
            clip = clip_index(6, seed=0, drawn_before=step * 8 + place)
            row = int(batch.text["pooled"][place, 0])
            assert row in source.captions[clip]
            met.add(row)
    assert met == set(range(12))


def drawn_captions(source: TrainingClips, num_steps: int) -> list[int]:
    """The caption of every place of so many steps; -1 is no text."""
    batches = [draw(source, range(8), step=step, drop_prob=0.0).text for step in range(num_steps)]
    return [
        -1 if is_null else int(row[0])
        for text in batches
        for row, is_null in zip(text["pooled"], text["is_null"].tolist(), strict=True)
    ]


def test_a_caption_is_drawn_as_often_as_its_weight_says() -> None:
    one = clips(1)
    source = TrainingClips(one.frames, [(0, 1, -1)], one.keeps_side, one.pooled, {0: (5.0, 1.0, 2.0)})
    met = drawn_captions(source, 250)
    shares = [met.count(caption) / len(met) for caption in (0, 1, -1)]
    assert shares == pytest.approx([5 / 8, 1 / 8, 2 / 8], abs=0.03)


def test_weights_of_one_clip_leave_the_draws_of_others_as_they_were() -> None:
    plain = clips(2)
    source = TrainingClips(plain.frames, plain.captions, plain.keeps_side, plain.pooled, {1: (1.0, 9.0)})
    before, now = drawn_captions(plain, 20), drawn_captions(source, 20)
    assert [caption for caption in before if caption < 2] == [caption for caption in now if caption < 2]
    assert before != now


def test_an_empty_caption_is_no_text_for_its_share() -> None:
    source = clips(1)
    source = TrainingClips(source.frames, [(0, -1)], [True, True], source.pooled)
    met = drawn_captions(source, 100)
    assert set(met) == {0, -1}
    assert 0.4 < met.count(-1) / len(met) < 0.6


def test_a_clip_without_caption_trains_without_text() -> None:
    source = clips(2)
    source = TrainingClips(source.frames, [(), ()], source.keeps_side, source.pooled)
    assert draw(source, range(8), drop_prob=0.0).text["is_null"].all()


def test_timesteps_of_a_global_batch_cover_the_range_evenly() -> None:
    t = draw(clips(), range(8)).t
    assert sorted((t * 8 // 100).tolist()) == list(range(8))


def test_a_place_meets_every_noise_level_in_time() -> None:
    t = torch.cat([draw(clips(), range(1), step=step).t for step in range(400)]).float()
    assert abs(t.mean() - 49.5) < 5
    assert t.min() < 5 and t.max() > 94


def test_pixels_span_minus_one_to_one() -> None:
    x0 = to_float(torch.tensor([[[[0, 255, 51]]]], dtype=torch.uint8))
    assert x0.shape == (3, 1, 1, 1)
    assert torch.allclose(x0.flatten(), torch.tensor([-1.0, 1.0, -0.6]))
