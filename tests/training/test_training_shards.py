"""Training on shards: every clip once an epoch, the same ones after a resume, and nothing else in memory."""

from pathlib import Path

import pytest
import torch

from t2v.data.pack import pack_folder
from t2v.data.pixels import Pixels
from t2v.data.shards import find_shards, load_shards
from t2v.data.stream import StreamedClips
from t2v.errors import RunError, SettingsError
from t2v.training.batches import MappedClips, TrainingClips
from t2v.training.order import streamed_index

SMALL = Pixels(num_frames=2, size=8, channels=3, background="white", fit="crop")
SIZES = (5, 0, 3, 4, 4, 2, 6)


@pytest.fixture
def shards(bench, fake_encoder) -> Path:
    """Twelve clips with captions in several shards, one of them damaged."""
    for number in range(3, 13):
        bench.write_gif(bench.clips / f"{number:02}.gif", number)
    for path in bench.clips.glob("*.gif"):
        path.with_suffix(".txt").write_text(f"clip {path.stem}")
    out = bench.folder / "shards"
    pack_folder(bench.clips, out, max_bytes=8_000)
    first = sorted(out.iterdir())[0]
    data = bytearray(first.read_bytes())
    data[512:520] = b"damaged!"
    first.write_bytes(data)
    return out


def test_an_epoch_shows_every_clip_of_every_shard_once() -> None:
    total = sum(SIZES)
    epochs = [[streamed_index(SIZES, seed=0, drawn_before=total * e + k) for k in range(total)] for e in range(3)]
    assert all(sorted(epoch) == list(range(total)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != [streamed_index(SIZES, seed=1, drawn_before=k) for k in range(total)]


def test_few_shards_are_open_at_once_and_their_clips_come_mixed() -> None:
    sizes = (10,) * 20
    shards = [streamed_index(sizes, seed=0, drawn_before=k) // 10 for k in range(200)]
    groups = [shards[first : first + 40] for first in range(0, 200, 40)]
    assert all(len(set(group)) == 4 for group in groups)
    assert [shard for group in groups for shard in dict.fromkeys(group)] != sorted(set(shards))
    assert all(group != sorted(group, key=group.index) for group in groups)


def test_the_order_is_what_it_has_always_been() -> None:
    """Runs go on with other versions than they were started with."""
    assert [streamed_index(SIZES, seed=7, drawn_before=30 + k) for k in range(6)] == [6, 12, 13, 23, 21, 8]


def test_a_run_on_shards_resumes_bit_exactly(bench, shards) -> None:
    bench.train(clips=shards)
    whole = bench.weights()
    bench.out.rename(bench.folder / "kept")
    bench.train(clips=shards, up_to=3)  # one step after the last save
    bench.train(clips=shards)
    assert bench.same(bench.weights(), whole)


def test_shards_by_name_and_by_folder_are_the_same_run(bench, shards) -> None:
    bench.train(clips=shards)
    by_folder = bench.weights()
    bench.out.rename(bench.folder / "kept")
    last = len(find_shards(shards)) - 1
    bench.train(clips=shards / f"{{000000..{last:06}}}.tar")
    assert bench.same(bench.weights(), by_folder)
    assert bench.run.newest_step() is not None


def test_a_damaged_clip_is_named_once_and_another_takes_its_place_with_its_own_caption(
    bench, shards, fake_encoder
) -> None:
    ready = bench.train(clips=shards, num_steps=8)
    told = [line for line in bench.said if line.startswith("left out: 000000.tar/000000.gif")]
    assert len(told) == 1 and told[0].endswith("the next of its shard takes its place")
    clips = ready.training.clips
    drawn = clips.whole(0)
    assert drawn == 1
    assert clips.pooled is not None and clips.stream is not None
    # The features of its caption, and the frames that these words are about.
    record = load_shards(find_shards(shards), SMALL).records[drawn]
    assert torch.equal(clips.pooled[clips.captions[drawn][0]], fake_encoder.encode(list(record.captions)).pooled[0])
    clips.stream.close()


def test_each_process_draws_its_own_share_and_decodes_nothing_else(bench, shards) -> None:
    ready = bench.open(clips=shards)
    training = ready.training
    alone = list(training._coming_clips())
    shares = []
    for index in range(2):
        state = training.accelerator.state
        training.accelerator = type("Two", (), {"num_processes": 2, "process_index": index, "state": state})()
        shares.append(list(training._coming_clips()))
    assert len(shares[0]) == len(shares[1]) == len(alone)
    both = [clip for pair in zip(*(batched(share) for share in shares), strict=True) for part in pair for clip in part]
    assert both[: len(alone)] == alone


def batched(clips: list[int]) -> list[list[int]]:
    return [clips[first : first + 2] for first in range(0, len(clips), 2)]


def test_a_streamed_batch_is_what_a_batch_of_the_same_clips_in_memory_would_be(bench, shards) -> None:
    stream = load_shards(find_shards(shards), SMALL).frames
    assert isinstance(stream, StreamedClips)
    clips = TrainingClips(MappedClips(stream), [()] * len(stream), (), None)
    drawn = [clips.whole(clips.example(seed=0, drawn_before=k)[0]) for k in range(len(stream))]
    kept = {index: stream[index].copy() for index in drawn}
    for index in drawn:
        assert torch.equal(clips.frames[index], torch.from_numpy(kept[index]))
    stream.close()


def test_other_shards_than_a_run_was_started_with_are_refused(bench, shards) -> None:
    bench.train(clips=shards, up_to=2)
    sorted(shards.iterdir())[-1].unlink()
    with pytest.raises(RunError, match=r"the clips changed .* 1 clip removed: 0000..\.tar"):
        bench.train(clips=shards)


def test_the_checkpoint_knows_how_many_clips_it_has_seen_and_their_words(bench, shards) -> None:
    header = bench.train(clips=shards).training.header()
    assert header.num_clips == 13
    assert "clip" in header.words


def test_shards_do_not_say_how_long_a_clip_lasts(bench, shards) -> None:
    told = {"model.interval": "true"}
    with pytest.raises(SettingsError, match=r"model\.interval needs data\.fps here"):
        bench.open(clips=shards, overrides=told)
    ready = bench.train(clips=shards, overrides=told | {"data.fps": "10"})
    batch = ready.training._batches(0)[0]
    assert set(batch.text["interval"].tolist()) == {100.0}
