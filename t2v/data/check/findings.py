"""What a person should know about a folder of clips before training on it."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from t2v.config import Recipe
from t2v.data.check.looks import Look
from t2v.data.check.treatment import hidden_share, picture_ms, scale
from t2v.data.folder import ClipRecord, count
from t2v.data.near import Group
from t2v.data.split import Split

FEW_CLIPS = 8
SPARSE_MS = 500.0  # between two pictures of a clip, in which people blink, steps are taken and balls bounce
MUCH_HIDDEN = 0.4  # of a picture cut off: a clip of 16:9 loses 0.44
MUCH_ENLARGED = 1.5
FLASHES = 2  # large turns of brightness that make a flashing clip

Level = Literal["warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One kind of thing found. A warning asks for a look; a note is good to know.

    kind: a name that does not change; sentence: begins with how many
    clips: keys of the clips it is about, in order; groups: the same where some of them belong together
    """

    kind: str
    level: Level
    sentence: str
    clips: tuple[str, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Examined:
    """The clips of a folder with what was measured of each, in the same order.

    near: places of near duplicates
    """

    records: Sequence[ClipRecord]
    looks: Sequence[Look]
    near: Sequence[Group]
    split: Split
    recipe: Recipe


def about(kind: str, level: Level, keys: tuple[str, ...], what: str) -> Iterator[Finding]:
    """A finding about some clips, if there are any; `what` goes on after their number."""
    if keys:
        yield Finding(kind, level, f"{count(len(keys), 'clip')} {what}", keys)


def picture_findings(seen: Examined) -> Iterator[Finding]:
    """Findings about pictures and motion."""
    yield from _duplicates(seen)
    for kind, level, what, holds in _PICTURES:
        clips = tuple(
            record.key
            for record, look in zip(seen.records, seen.looks, strict=True)
            if holds(record, look, seen.recipe)
        )
        yield from about(kind, level, clips, what)
    if len(seen.records) < FEW_CLIPS:
        few = count(len(seen.records), "clip")
        yield Finding("few", "warning", f"only {few}: a model will repeat them, not learn from them")


def split_findings(seen: Examined) -> Iterator[Finding]:
    """Findings about the clips held out."""
    share = seen.recipe.data.hold_out
    if share and not seen.split.held_out:
        all_clips = count(len(seen.records), "clip")
        yield Finding("none_held_out", "warning", f"none of {all_clips} falls among the {100 * share:g}% held out")
    if len(seen.split.training) < len(seen.records) / 2:
        left = f"{len(seen.split.training):,} of {count(len(seen.records), 'clip')}"
        yield Finding("few_to_train_on", "warning", f"only {left} are left to train on")


def _duplicates(seen: Examined) -> Iterator[Finding]:
    records, looks = seen.records, seen.looks
    files = _groups_by([record.sha256 for record in records])
    pictures = [
        group
        for group in _groups_by([look.pixels_sha256 for look in looks])
        if len({records[place].sha256 for place in group}) > 1
    ]
    near = [group for group in seen.near if len({looks[place].pixels_sha256 for place in group}) > 1]
    if files:
        doubles = count(sum(len(group) - 1 for group in files), "clip")
        yield _of_groups("same_file", "warning", f"{doubles} the same as another, byte for byte", files, records)
    if pictures:
        sentence = f"{_in(pictures)} with the same pictures in different files"
        yield _of_groups("same_pictures", "warning", sentence, pictures, records)
    if near:
        yield _of_groups("near_duplicates", "note", f"{_in(near)} hard to tell from another", near, records)
    contradicting = [
        group
        for group in _groups_by([look.pixels_sha256 for look in looks])
        if len({records[place].captions for place in group}) > 1
    ]
    if contradicting:
        sentence = f"{_in(contradicting)} with the same pictures and different captions"
        yield _of_groups("other_captions", "warning", sentence, contradicting, records)


def _of_groups(
    kind: str, level: Level, sentence: str, groups: Sequence[Group], records: Sequence[ClipRecord]
) -> Finding:
    keys = tuple(tuple(records[place].key for place in group) for group in groups)
    return Finding(kind, level, sentence, tuple(key for group in keys for key in group), keys)


def _in(groups: Sequence[Group]) -> str:
    return f"{count(sum(map(len, groups)), 'clip')} in {count(len(groups), 'group')}"


def _groups_by(values: Iterable[Any]) -> list[Group]:
    """Places of equal values, where there are at least two."""
    places: defaultdict[Any, list[int]] = defaultdict(list)
    for place, value in enumerate(values):
        places[value].append(place)
    return [tuple(group) for group in places.values() if len(group) > 1]


_Holds = Callable[[ClipRecord, Look, Recipe], bool]
_PICTURES: tuple[tuple[str, Level, str, _Holds], ...] = (
    ("flat", "warning", "of one flat colour: nothing can be seen", lambda clip, look, recipe: look.is_flat),
    (
        "dark",
        "warning",
        "black to the eye",
        lambda clip, look, recipe: look.is_dark and not look.is_flat,
    ),
    (
        "frozen",
        "warning",
        "of which all pictures seen are the same: they do not move",
        lambda clip, look, recipe: clip.num_frames > 1 and look.num_changes == 0 and not look.is_flat,
    ),
    ("flashing", "note", "flashing light and dark", lambda clip, look, recipe: look.num_flashes >= FLASHES),
    (
        "still",
        "note",
        "with a single frame: they are stills (data.stills)",
        lambda clip, look, recipe: clip.num_frames == 1,
    ),
    (
        "blank_pictures",
        "note",
        "with pictures of one flat colour among others",
        lambda clip, look, recipe: look.num_flat > 0 and not look.is_flat,
    ),
    (
        "short",
        "note",
        "with fewer frames than are seen: some pictures repeat",
        lambda clip, look, recipe: 1 < clip.num_frames < recipe.data.most_frames and not recipe.data.fps,
    ),
    (
        "sparse",
        "note",
        f"of which pictures more than {SPARSE_MS / 1000:g} s apart are seen: what moves between them is lost",
        lambda clip, look, recipe: clip.num_frames > 1 and picture_ms(clip, look, recipe.data.fps) > SPARSE_MS,
    ),
    (
        "cropped",
        "note",
        f"of which more than {MUCH_HIDDEN:.0%} is cut off to make them square; data.fit=pad keeps all",
        lambda clip, look, recipe: hidden_share(clip, recipe.data) > MUCH_HIDDEN,
    ),
    (
        "enlarged",
        "note",
        f"enlarged more than {MUCH_ENLARGED:g} times: data.size is larger than they are",
        lambda clip, look, recipe: scale(clip, recipe.data) > MUCH_ENLARGED,
    ),
)
"""kind, level, sentence after the number, and which clips it is true of"""
