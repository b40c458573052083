"""A folder of clips as one list, in which a clip, its captions and its file stay one record.

A clip that cannot be read leaves the list with its captions and a reason, so nothing after it can shift.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from t2v.data.captions import MAX_TEXT_BYTES, CaptionSource, Metadata, choose_words, normal_path, read_metadata_file
from t2v.data.clip import Clip, parse_colour, to_training
from t2v.data.listing import LeftOut, Listing, list_folder, stem
from t2v.data.video_files import decode_clip, read_bytes
from t2v.errors import ClipError, DatasetError

SCAN_SIDE = 64  # a scan decodes whole clips to know that they can be read, and keeps no pixels
NAMED_AT_MOST = 5

Progress = Callable[[int, int], None]
Manifest = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class ClipRecord:
    """One readable clip. `key` is its path below the folder, with `/`; width and height are those of the file."""

    path: Path
    key: str
    captions: tuple[str, ...]
    caption_source: CaptionSource
    num_frames: int
    duration_ms: float
    width: int
    height: int
    sha256: str


@dataclass(frozen=True)
class Scan:
    """What a folder holds, in the order of the keys. `warnings` are about captions that belong to no clip."""

    folder: Path
    clips: tuple[ClipRecord, ...]
    left_out: tuple[LeftOut, ...]
    warnings: tuple[str, ...]

    @property
    def manifest(self) -> Manifest:
        """Key to content hash and captions, as JSON can hold it: all that training takes from the folder."""
        return {clip.key: {"sha256": clip.sha256, "captions": list(clip.captions)} for clip in self.clips}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the manifest: equal for equal clips and captions, wherever the folder lies."""
        return hashlib.sha256(json.dumps(self.manifest, sort_keys=True).encode()).hexdigest()

    @property
    def is_captioned(self) -> bool:
        """Whether any clip has a caption; without one the model is unconditional."""
        return any(clip.captions for clip in self.clips)


@dataclass(frozen=True)
class LoadedClips:
    """A scan and the pixels of its clips in the same order: uint8 `n f h w c`."""

    scan: Scan
    frames: np.ndarray

    @property
    def records(self) -> tuple[ClipRecord, ...]:
        """The clips that `frames` holds."""
        return self.scan.clips

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """The files that are not in `frames`, with reasons."""
        return self.scan.left_out


def scan_folder(folder: Path | str, *, progress: Progress | None = None, num_workers: int | None = None) -> Scan:
    """Read every clip of a folder, at any depth, and keep what is known of each but not its pixels.

    progress: called with the files done and the files in all; num_workers: threads, by default one per core
    Raises DatasetError where there is nothing to train on, or where a metadata file cannot be read.
    """
    folder = Path(folder)
    listing, metadata = _open(folder)
    found = []
    for outcome in _outcomes(listing, metadata, SCAN_SIDE, _nothing, progress, num_workers):
        found.append(outcome if isinstance(outcome, LeftOut) else outcome[0])
    return _scan(folder, listing, metadata, found)


def load_clips(
    folder: Path | str,
    *,
    num_frames: int,
    size: int,
    channels: int,
    background: str,
    fit: Literal["crop", "pad"],
    progress: Progress | None = None,
    num_workers: int | None = None,
) -> LoadedClips:
    """`scan_folder` with the pixels that training sees (`clip.to_training`); each file is decoded once."""
    parse_colour(background)  # a wrong name is said before the work, not after it
    folder = Path(folder)
    listing, metadata = _open(folder)

    def convert(clip: Clip) -> np.ndarray:
        return to_training(clip, num_frames=num_frames, size=size, channels=channels, background=background, fit=fit)

    # Memory that is never written to is never taken: clips that are left out cost nothing here.
    frames = np.empty((len(listing.clips), num_frames, size, size, channels), dtype=np.uint8)
    found: list[ClipRecord | LeftOut] = []
    num_good = 0
    for outcome in _outcomes(listing, metadata, size, convert, progress, num_workers):
        if isinstance(outcome, LeftOut):
            found.append(outcome)
        else:
            record, frames[num_good] = outcome
            found.append(record)
            num_good += 1
    return LoadedClips(_scan(folder, listing, metadata, found), frames[:num_good])


def describe_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """What changed between two manifests, a line for each kind of change; empty where nothing did."""
    both = sorted(old.keys() & new.keys())
    changes = {
        "added": sorted(new.keys() - old.keys()),
        "removed": sorted(old.keys() - new.keys()),
        "with other pictures": [key for key in both if old[key]["sha256"] != new[key]["sha256"]],
        "with other captions": [key for key in both if list(old[key]["captions"]) != list(new[key]["captions"])],
    }
    return tuple(f"{count(len(keys), 'clip')} {what}: {some(keys)}" for what, keys in changes.items() if keys)


def count(number: int, noun: str) -> str:
    """`1 clip`, `2 clips`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - NAMED_AT_MOST
    return ", ".join(names[:NAMED_AT_MOST]) + (f" and {more:,} more" if more > 0 else "")


def _open(folder: Path) -> tuple[Listing, dict[str, Metadata]]:
    listing = list_folder(folder)
    return listing, {where: read_metadata_file(path) for where, path in listing.metadata.items()}


def _nothing(clip: Clip) -> None:
    return None


def _outcomes(
    listing: Listing,
    metadata: Mapping[str, Metadata],
    max_side: int,
    convert: Callable[[Clip], Any],
    progress: Progress | None,
    num_workers: int | None,
) -> Iterator[LeftOut | tuple[ClipRecord, Any]]:
    """What became of each file, in the order of the keys: a reason, or a record and the converted clip."""

    def read(key: str) -> LeftOut | tuple[ClipRecord, Any]:
        try:
            record, clip = _read_one(key, listing, metadata, max_side=max_side)
        except ClipError as error:
            return LeftOut(key, str(error))
        return record, convert(clip)

    with ThreadPoolExecutor(num_workers or os.cpu_count()) as pool:
        for done, outcome in enumerate(pool.map(read, listing.clips), start=1):
            yield outcome
            if progress:
                progress(done, len(listing.clips))


def _read_one(
    key: str, listing: Listing, metadata: Mapping[str, Metadata], *, max_side: int
) -> tuple[ClipRecord, Clip]:
    path = listing.clips[key]
    data = read_bytes(path)
    clip = decode_clip(data, max_side=max_side)
    words = choose_words(key, text=_caption_text(listing.texts.get(stem(key))), metadata=metadata)
    record = ClipRecord(
        path=path,
        key=key,
        captions=words.captions,
        caption_source=words.source,
        num_frames=len(clip.frames),
        duration_ms=clip.duration_ms,
        width=clip.width,
        height=clip.height,
        sha256=hashlib.sha256(data).hexdigest(),
    )
    return record, clip


def _caption_text(path: Path | None) -> str | None:
    """The content of a caption file. A clip whose captions exist and cannot be read must not train without them."""
    if path is None:
        return None
    try:
        data = read_bytes(path)
    except ClipError as error:
        raise ClipError(f"has a caption file {path.name} that {error}") from None
    if len(data) > MAX_TEXT_BYTES:
        raise ClipError(f"has a caption file {path.name} of more than {MAX_TEXT_BYTES >> 10} KB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ClipError(f"has a caption file {path.name} that is not UTF-8 text; save it as UTF-8") from None


def _scan(
    folder: Path, listing: Listing, metadata: Mapping[str, Metadata], found: Sequence[ClipRecord | LeftOut]
) -> Scan:
    clips = tuple(item for item in found if isinstance(item, ClipRecord))
    left_out = [*listing.left_out, *(item for item in found if isinstance(item, LeftOut))]
    left_out.sort(key=lambda item: item.key)
    if not clips:
        reasons = some([f"{item.key} {item.reason}" for item in left_out])
        raise DatasetError(f"{folder} holds no readable clip; add some, or name another folder ({reasons})")
    return Scan(folder, clips, tuple(left_out), tuple(_lost_captions(listing, metadata)))


def _lost_captions(listing: Listing, metadata: Mapping[str, Metadata]) -> Iterator[str]:
    """Sentences about captions that stand beside no clip: a misspelled name is how they usually get lost."""
    stems = {stem(key) for key in listing.clips}
    orphans = sorted(path.name for key, path in listing.texts.items() if key not in stems)
    if orphans:
        yield f"{count(len(orphans), '.txt file')} with no clip of the same name: {some(orphans)}"
    keys = {normal_path(key) for key in listing.clips}
    for where, file in metadata.items():
        prefix = f"{where}/" if where else ""
        missing = sorted(name for name in file.captions if normal_path(prefix + name) not in keys)
        if missing:
            yield f"{prefix}{file.name} names {count(len(missing), 'file')} that cannot be used here: {some(missing)}"
