"""What a run takes from a folder or from shards: its clips as the recipe sees them, and what follows from them."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from accelerate import PartialState

from t2v.cache import cache_folder
from t2v.config import CAPTION_PLACEHOLDER, DataSettings, Recipe
from t2v.data.folder import ClipRecord, LoadedClips, Scan, count, load_clips, survey_folder, with_template
from t2v.data.pixels import Pixels
from t2v.data.shards import NUM_LOOKED_AT, find_shards, load_shards, scan_shards
from t2v.data.split import for_training, split_loaded
from t2v.data.stream import StreamedClips
from t2v.data.workers import usable_cores
from t2v.errors import SettingsError
from t2v.training.batches import TrainingClips
from t2v.training.captions import RunCaptions
from t2v.training.choose import share_of_stills
from t2v.training.plan import Plan
from t2v.training.telling import telling

Say = Callable[[str], None]


def survey(path: Path, recipe: Recipe) -> Scan:
    """What a folder or shards hold, with captions as the recipe has them; no frame is unpacked for it."""
    pixels = Pixels.of(recipe.data, recipe.limits)
    scan: Scan
    if shards := find_shards(path):
        scan = scan_shards(shards, pixels, cache=cache_folder(), look_at=NUM_LOOKED_AT)
    else:
        scan = survey_folder(path, pixels)
    return with_template(scan, recipe.text.template)


def load_run_clips(path: Path, recipe: Recipe, say: Say) -> LoadedClips:
    """The clips of a folder or of shards as the recipe sees them, without those held out; says what is odd.

    Raises DatasetError where there is nothing to train on, and SettingsError for what cannot be had of shards.
    """
    data = recipe.data
    pixels = Pixels.of(data, recipe.limits)
    # Processes of one machine share its cache: the first decodes, the others find it done.
    with PartialState().local_main_process_first():
        if shards := find_shards(path):
            if data.window == "every":
                raise SettingsError(
                    "data.window=every needs the length of every clip, which shards do not tell; take random"
                )
            if data.hold_out:
                raise SettingsError("data.hold_out goes by the content of clips, which shards are not searched for")
            if recipe.model.interval and data.fps is None:
                raise SettingsError(
                    "model.interval needs data.fps here: how long a clip lasts is not known before it is drawn from "
                    "its shard"
                )
            if recipe.train.frame_share:
                raise SettingsError(
                    "train.frame_share takes frames of any clip at any time, and shards are read in order"
                )
            num_workers = max(1, usable_cores() // PartialState().num_processes)
            loaded = load_shards(shards, pixels, cache=cache_folder(), say=say, num_workers=num_workers)
        else:
            loaded = load_clips(path, pixels, cache=cache_folder(), say=say, progress=telling(say, "files read"))
    template = recipe.text.template
    if template:
        say(_about_template(template, loaded))
    loaded = replace(loaded, scan=with_template(loaded.scan, template))
    for item in loaded.left_out:
        say(f"left out: {item.key} {item.reason}")
    if loaded.left_out and not shards:
        say(f"t2v check {shlex.quote(str(path))} says more about the folder")
    for warning in loaded.scan.warnings:
        say(f"warning: {warning}")
    loaded = _without_held_out(loaded, data.hold_out, say)
    left_out = f"; {len(loaded.left_out)} left out" if loaded.left_out else ""
    known = "" if loaded.num_decoded else f", decoded before and kept in {cache_folder()}"
    if shards:
        known = f", from {count(len(shards), 'shard')}, each decoded when it is drawn"
    stills = sum(record.num_frames == 1 for record in loaded.scan.looked_at)
    held = f", {stills} of a single frame," if stills else ""
    say(f"{len(loaded.records)} clips{held} as {data.most_frames} frames of {data.size}x{data.size}{left_out}{known}")
    return loaded


def _about_template(template: str, loaded: LoadedClips) -> str:
    if CAPTION_PLACEHOLDER in template:
        return f"captions are taken as {template!r}"
    num_unheard = sum(bool(record.captions) for record in loaded.records)
    own = f"; the {num_unheard} with captions of their own lose them" if num_unheard else ""
    return f"every clip is captioned {template!r}{own}"


def _without_held_out(loaded: LoadedClips, share: float, say: Say) -> LoadedClips:
    if not share:
        return loaded
    split = split_loaded(loaded, share)
    if not split.held_out:
        say(f"warning: none of {len(loaded.records)} clips falls among the {100 * share:g}% held out (data.hold_out)")
    near = f", and {len(split.set_aside)} too near to them" if split.set_aside else ""
    say(f"held out: {len(split.held_out)} of {len(loaded.records)} clips{near}")
    return for_training(loaded, split)


def moving_clips(records: Sequence[ClipRecord]) -> list[ClipRecord]:
    """The clips that are no stills."""
    return [record for record in records if record.num_frames > 1]


def decide_still_share(clips: LoadedClips, recipe: Recipe, say: Say) -> float | None:
    """The share of a batch that stills take, decided once for a run; None where they are shown as clips."""
    asked, num_frames = recipe.train.still_share, recipe.data.num_frames
    if isinstance(clips.frames, StreamedClips):
        if asked is not None:
            say("note: train.still_share has no effect, as stills in shards are not known before they come up")
        return None
    num_stills = sum(len(rows) == 1 for rows in clips.frames)
    num_videos = len(clips.frames) - num_stills
    share = share_of_stills(asked, num_videos=num_videos, num_stills=num_stills, num_frames=num_frames)
    if share is not None:
        beside = f"{count(num_stills, 'still')} beside {count(num_videos, 'clip')}"
        say(f"{beside}: trained on as pictures, {share:.0%} of each batch (train.still_share)")
    elif asked is not None:
        what = "a model of one frame" if num_frames == 1 else "clips alone" if num_videos else "stills alone"
        say(f"note: train.still_share has no effect, as this is trained on {what}")
    if recipe.train.frame_share + (share or 0.0) >= 1:
        raise SettingsError(
            f"stills take {share:.0%} of each batch and train.frame_share {recipe.train.frame_share:.0%}, which leaves "
            "nothing for clips; lower train.frame_share or set train.still_share"
        )
    if not num_videos and num_frames > 1:
        say(f"every clip is a still: it stands still for {num_frames} frames; --set data.num_frames=1 costs less")
    return share


def clips_to_draw_from(captions: RunCaptions, clips: LoadedClips, plan: Plan) -> TrainingClips:
    """What batches are drawn from, with the windows and the share of stills that the run has."""
    data = plan.recipe.data
    return replace(
        captions.training_clips(clips),
        num_frames=data.num_frames,
        lengths=data.lengths,
        is_spread=data.fps is None,
        times=_times(clips, plan.recipe),
        window=data.window or TrainingClips.window,
        still_share=plan.still_share,
        frame_share=plan.recipe.train.frame_share,
    )


def _times(clips: LoadedClips, recipe: Recipe) -> Sequence[float] | None:
    """What a network with model.interval is told of time: ms of each clip, or with data.fps of each of its frames."""
    if not recipe.model.interval:
        return None
    fps = recipe.data.fps
    return [record.duration_ms if fps is None else 1000 / fps for record in clips.records]


def frame_ms(records: Sequence[ClipRecord], data: DataSettings) -> float:
    """Mean time between two of the frames that training sees: the rate that generated files are written at."""
    if data.fps is not None:
        return 1000 / data.fps
    durations = [record.duration_ms for record in moving_clips(records)]
    return float(np.median(durations)) / data.num_frames if durations else 100.0


def texts_to_sample(texts: Sequence[str], records: Sequence[ClipRecord]) -> Sequence[str]:
    """The captions among `texts` of clips that move, as sheets are of clips; all where none of those has one."""
    said = {caption for record in moving_clips(records) for caption in record.captions}
    return [text for text in texts if text in said] or texts
