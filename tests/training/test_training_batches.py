"""What is drawn at a place depends on nothing but (seed, step, place)."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from t2v.training.batches import MappedClips, TrainingClips, draw_batch, to_float
from t2v.training.order import clip_index

SETTINGS = {"num_timesteps": 100, "flip_prob": 0.5, "drop_prob": 0.25}


def clips(num_clips: int = 6, *, keeps_side: bool = False) -> TrainingClips:
    """Clips whose left half is black and right half white, with two captions each."""
    frames = torch.zeros(num_clips, 2, 4, 4, 3, dtype=torch.uint8)
    frames[:, :, :, 2:] = 255
    pooled = torch.arange(2.0 * num_clips)[:, None]
    captions = [(2 * k, 2 * k + 1) for k in range(num_clips)]
    return TrainingClips(frames, captions, [keeps_side] * (2 * num_clips), pooled)


def draw(source: TrainingClips, places: range, *, seed: int = 0, step: int = 3, **changed: float):
    (batch,) = draw_batch(source, seed=seed, step=step, places=places, global_batch=8, **{**SETTINGS, **changed})
    return batch


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


def test_at_half_its_size_everything_is_what_it_would_be() -> None:
    frames = torch.randint(0, 256, (3, 3, 4, 4, 3), dtype=torch.uint8)
    source = TrainingClips(frames, [(0,), (1,), (2,)], [False] * 3, torch.arange(3.0)[:, None], num_frames=3)
    source = replace(source, frame_share=0.25)
    for step in range(4):
        whole, halved = (draw_parts(source, range(8), step=step, halved=halved) for halved in (False, True))
        for part, small in zip(whole, halved, strict=True):
            fours = part.x0.unflatten(-1, (2, 2)).unflatten(-3, (2, 2)).mean((-1, -3))
            assert torch.allclose(small.x0, fours, atol=1e-6)
            assert small.noise.shape == small.x0.shape and small.noise.std() > 0.5
            assert torch.equal(small.t, part.t)
            assert small.text is not None and part.text is not None
            assert torch.equal(small.text["pooled"], part.text["pooled"])


# Windows of longer clips, and stills


def numbered(*lengths: int, **changed: object) -> TrainingClips:
    """Clips of so many frames, each frame of one shade: 10 times the clip's number and its own."""
    frames = [
        np.array([10 * clip + frame for frame in range(length)], np.uint8).reshape(-1, 1, 1, 1).repeat(4, axis=2)
        for clip, length in enumerate(lengths)
    ]
    pooled = torch.arange(1.0 * len(lengths))[:, None]
    captions = [(row,) for row in range(len(lengths))]
    whole = TrainingClips(MappedClips(frames), captions, [False] * len(lengths), pooled)
    return replace(whole, **{"num_frames": 3, **changed})


def draw_parts(source: TrainingClips, places: range, *, step: int = 3, **changed: float):
    return draw_batch(source, seed=0, step=step, places=places, global_batch=8, **{**SETTINGS, **changed})


def shades(x0: torch.Tensor) -> list[list[int]]:
    """The frames of each clip by the numbers they were given."""
    return ((x0[:, 0, :, 0, 0] + 1) * 127.5).round().int().tolist()


def shown(source: TrainingClips, *, steps: int) -> list[list[int]]:
    return [frames for step in range(steps) for frames in shades(draw(source, range(8), step=step).x0)]


def test_the_head_of_a_clip_is_its_first_frames() -> None:
    assert {tuple(frames) for frames in shown(numbered(3, 9, window="head"), steps=2)} == {(0, 1, 2), (10, 11, 12)}


def test_a_random_window_is_three_frames_in_a_row_from_anywhere_in_the_clip() -> None:
    met = [frames for frames in shown(numbered(3, 7, window="random"), steps=12) if frames[0] >= 10]
    assert {tuple(frames) for frames in met} == {(10 + k, 11 + k, 12 + k) for k in range(5)}
    assert len(met) == 48  # a long clip comes up as often as a short one


def test_where_a_window_starts_changes_nothing_else_that_is_drawn() -> None:
    short, long = (draw(numbered(3, 3, 3), range(8)), draw(numbered(3, 9, 5, window="random"), range(8)))
    assert torch.equal(short.noise, long.noise) and torch.equal(short.t, long.t)
    assert all(torch.equal(short.text[key], long.text[key]) for key in short.text)


def test_every_window_is_an_example_of_its_own_and_comes_up_once_an_epoch() -> None:
    source = numbered(3, 8, 6, 4, window="every")
    windows = {
        (0, 1, 2),
        (10, 11, 12),
        (13, 14, 15),
        (15, 16, 17),
        (20, 21, 22),
        (23, 24, 25),
        (30, 31, 32),
        (31, 32, 33),
    }
    for epoch in range(3):
        batch = draw(source, range(8), step=epoch, drop_prob=0.0)
        assert {tuple(frames) for frames in shades(batch.x0)} == windows
        # Each window brings the caption of its clip.
        assert batch.text["pooled"][:, 0].tolist() == [frames[0] // 10 for frames in shades(batch.x0)]


def lengths_met(source: TrainingClips, *, steps: int) -> set[int]:
    met = set()
    for step in range(steps):
        one = {len(frames) for frames in shades(draw(source, range(8), step=step).x0)}
        assert len(one) == 1  # all of a step, as they go through the network together
        met |= one
    return met


def test_each_step_shows_clips_of_one_of_the_lengths() -> None:
    source = numbered(6, 6, 6, num_frames=4, lengths=(3, 6), is_spread=True)
    assert lengths_met(source, steps=40) == {3, 4, 5, 6}
    whole, parts = draw(source, range(8)), [draw(source, range(0, 3)), draw(source, range(3, 8))]
    assert torch.equal(whole.x0, torch.cat([part.x0 for part in parts]))


def test_fewer_frames_are_spread_over_the_whole_time_of_a_clip() -> None:
    source = numbered(6, lengths=(2, 6), is_spread=True)
    met = {tuple(frames) for frames in shown(source, steps=40)}
    assert met == {(1, 4), (1, 3, 5), (0, 2, 3, 5), (0, 1, 3, 4, 5), (0, 1, 2, 3, 4, 5)}


@pytest.mark.parametrize("window", ["random", "every"])
def test_at_a_fixed_rate_fewer_frames_are_a_part_from_anywhere_in_the_clip(window: str) -> None:
    source = numbered(7, num_frames=4, lengths=(3, 5), window=window)
    met = {tuple(frames) for frames in shown(source, steps=80)}
    anywhere = {tuple(range(start, start + length)) for length in (3, 4, 5) for start in range(8 - length)}
    assert met == anywhere - ({(1, 2, 3, 4, 5)} if window == "every" else set())  # those of five begin at 0 and 2


def test_the_head_of_a_clip_begins_with_it_at_any_length() -> None:
    source = numbered(7, num_frames=4, lengths=(3, 5), window="head")
    assert {tuple(frames) for frames in shown(source, steps=40)} == {(0, 1, 2), (0, 1, 2, 3), (0, 1, 2, 3, 4)}


def test_a_still_without_a_share_stands_still_for_any_length() -> None:
    source = numbered(1, num_frames=4, lengths=(3, 5), is_spread=True)
    assert {tuple(frames) for frames in shown(source, steps=40)} == {(0,) * 3, (0,) * 4, (0,) * 5}


def test_a_place_of_pictures_shows_as_many_at_any_length() -> None:
    source = numbered(6, 6, 6, num_frames=4, lengths=(3, 6), is_spread=True, frame_share=0.5)
    for step in range(8):
        clips, pictures = draw_parts(source, range(8), step=step)
        assert len(clips.x0) == 4 and pictures.x0.shape[:3:2] == (16, 1)


@pytest.mark.parametrize("share", [0.25, 1 / 3, 0.9])
def test_stills_take_their_share_of_every_stretch_of_places(share: float) -> None:
    source = numbered(3, 1, 1, 1, still_share=share)
    for step in range(6):
        parts = draw_parts(source, range(8), step=step)
        num_places = [len(part.x0) / (1 if part.num_frames == 3 else 3) for part in parts]
        assert [part.share for part in parts] == [number / 8 for number in num_places]
        assert sum(num_places) == 8
        stills = sum(number for part, number in zip(parts, num_places, strict=True) if part.num_frames == 1)
        assert int(8 * share) <= stills <= int(8 * share) + 1
    everything = [
        part for step in range(50) for part in draw_parts(source, range(8), step=step) if part.num_frames == 1
    ]
    assert sum(part.share for part in everything) / 50 == pytest.approx(share, abs=0.01)


def test_a_place_of_stills_shows_as_many_pictures_as_a_clip_has_frames_each_with_its_own_draws() -> None:
    source = numbered(3, *[1] * 12, still_share=0.5)
    clips, stills = draw_parts(source, range(8), drop_prob=0.0)
    assert clips.x0.shape == (4, 1, 3, 1, 4) and stills.x0.shape == (12, 1, 1, 1, 4)
    assert sorted(picture for (picture,) in shades(stills.x0)) == [10 * clip for clip in range(1, 13)]  # an epoch
    assert stills.text["pooled"][:, 0].tolist() == [picture // 10 for (picture,) in shades(stills.x0)]
    assert len(set(stills.t.tolist())) == 12
    assert len(set(stills.noise[:, 0, 0, 0, 0].tolist())) == 12


def test_beside_stills_every_clip_comes_up_once_an_epoch_too() -> None:
    for epoch in range(3):
        clips, _ = draw_parts(numbered(3, 3, 3, 3, 1, still_share=0.5), range(8), step=epoch)
        assert sorted(frames[0] for frames in shades(clips.x0)) == [0, 10, 20, 30]


def test_timesteps_of_stills_cover_the_range_evenly() -> None:
    (*_, stills) = draw_parts(numbered(3, 1, 1, still_share=0.5), range(8))
    assert sorted((stills.t * 3 // 100).tolist()) == [0] * 4 + [1] * 4 + [2] * 4


def test_a_batch_with_stills_is_the_same_however_it_is_split() -> None:
    source = numbered(5, 3, 1, 1, 1, 1, window="random", still_share=0.4)
    whole = draw_parts(source, range(8))
    parts = [part for places in (range(0, 3), range(3, 4), range(4, 8)) for part in draw_parts(source, places)]
    for one in whole:
        others = [part for part in parts if part.num_frames == one.num_frames]
        for name in ("x0", "noise", "t"):
            assert torch.equal(getattr(one, name), torch.cat([getattr(part, name) for part in others]))


def test_what_lies_beside_stills_is_drawn_as_without_them() -> None:
    """The first place of a run is never one of stills; it draws what it does where there are none."""
    alone, beside = (
        draw(numbered(3, 3), range(1), step=0),
        draw_parts(numbered(3, 3, 1, still_share=0.5), range(1), step=0)[0],
    )
    assert (
        torch.equal(alone.x0, beside.x0) and torch.equal(alone.noise, beside.noise) and torch.equal(alone.t, beside.t)
    )


def test_a_still_without_a_share_is_a_clip_that_stands_still() -> None:
    assert {tuple(frames) for frames in shown(numbered(1, 3), steps=2)} == {(0, 0, 0), (10, 11, 12)}
    (batch,) = draw_parts(numbered(1, 1, 1), range(8))
    assert batch.x0.shape == (8, 1, 3, 1, 4) and batch.share == 1


def test_at_a_share_of_none_of_the_places_stills_are_left_out() -> None:
    assert {tuple(frames) for frames in shown(numbered(3, 1, still_share=0.0), steps=2)} == {(0, 1, 2)}


def test_frames_of_clips_take_their_share_of_the_places_beside_stills() -> None:
    source = numbered(3, 3, 3, 1, 1, still_share=0.25, frame_share=0.5)
    met = {"clips": 0.0, "stills": 0.0, "frames": 0.0}
    for step in range(50):
        for part in draw_parts(source, range(8), step=step):
            if part.num_frames == 3:
                met["clips"] += part.share
                continue
            places = torch.tensor(shades(part.x0)).view(-1, 3)
            # A place shows either kind: three stills, or three frames, which may be of stills too.
            are_stills = (places >= 30).all(dim=1)
            met["stills"] += int(are_stills.sum()) / 8
            met["frames"] += int((~are_stills).sum()) / 8
    assert met["clips"] / 50 == pytest.approx(0.25, abs=0.01)
    # Now and then all three frames are of stills.
    assert met["frames"] / 50 == pytest.approx(0.5, abs=0.1) and met["stills"] / 50 == pytest.approx(0.25, abs=0.1)


def test_every_frame_of_every_clip_is_shown_in_time_with_its_caption() -> None:
    source = numbered(3, 3, 3, frame_share=0.5)
    met = set()
    for step in range(20):
        _, frames = draw_parts(source, range(8), step=step, drop_prob=0.0)
        pictures = [picture for (picture,) in shades(frames.x0)]
        assert frames.text["pooled"][:, 0].tolist() == [picture // 10 for picture in pictures]
        met |= set(pictures)
    assert met == {10 * clip + frame for clip in range(3) for frame in range(3)}


def test_tokens_come_with_their_captions_padded_to_the_longest_of_all() -> None:
    source = clips(2)
    tokens = [np.full((number, 5), number, np.float16) for number in (1, 4, 2, 3)]
    text = draw(replace(source, tokens=tokens), range(8), drop_prob=0.0).text
    assert text["tokens"].shape == (8, 4, 5) and text["tokens"].dtype == torch.float32
    for row in range(8):
        number = tokens[int(text["pooled"][row, 0])].shape[0]
        assert text["mask"][row].tolist() == [place < number for place in range(4)]
        assert torch.equal(text["tokens"][row][:number], torch.full((number, 5), float(number)))


def test_each_clip_says_the_time_between_its_frames() -> None:
    spread = numbered(6, 6, times=[600.0, 1200.0], lengths=(3, 6), is_spread=True)
    for step in range(10):
        batch = draw(spread, range(8), step=step, drop_prob=0.0)
        durations = [[600.0, 1200.0][frames[0] // 10] for frames in shades(batch.x0)]
        assert batch.text["interval"].tolist() == [duration / batch.num_frames for duration in durations]
    fixed = numbered(7, 7, times=[125.0, 125.0], lengths=(3, 5))
    assert set(draw(fixed, range(8)).text["interval"].tolist()) == {125.0}
    assert "interval" not in draw(numbered(7), range(8)).text


def test_pictures_say_no_time() -> None:
    source = numbered(6, 6, 6, times=[600.0] * 3, is_spread=True, num_frames=6, frame_share=0.5)
    clips, pictures = draw_parts(source, range(8))
    assert set(clips.text["interval"].tolist()) == {100.0} and not pictures.text["interval"].any()
