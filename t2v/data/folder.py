"""A folder of clips as one list, in which a clip, its captions and its file stay one record.

A clip that cannot be read leaves the list with its captions and a reason, so nothing after it can shift.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from t2v.cache import Facts, RowCache
from t2v.data.captions import MAX_TEXT_BYTES, CaptionSource, Metadata, choose_words, normal_path, read_metadata_file
from t2v.data.listing import LeftOut, Listing, list_folder, stem
from t2v.data.marks import file_mark, read_marked
from t2v.data.pixels import Pixels
from t2v.data.video_files import read_bytes
from t2v.data.workers import LOOK, SCAN, Task, Workers, in_order, pixels_task, usable_cores
from t2v.errors import ClipError, DatasetError

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
    def looked_at(self) -> tuple[ClipRecord, ...]:
        """The clips of which more is known than their captions: of a folder all, of shards some."""
        return tuple(clip for clip in self.clips if clip.num_frames)

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
    """A scan and the pixels of its clips in the same order: n arrays, uint8 `f h w c`, not to be written to.

    num_decoded: files that were unpacked for it; the others were so before
    """

    scan: Scan
    frames: Sequence[np.ndarray]
    num_decoded: int

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

    progress: called with the files done and the files in all; num_workers: processes, by default one per core
    Raises DatasetError where there is nothing to train on, or where a metadata file cannot be read.
    """
    return _scan_by(SCAN, folder, progress, num_workers)


def survey_folder(folder: Path | str, *, progress: Progress | None = None, num_workers: int | None = None) -> Scan:
    """`scan_folder` by the blocks of the files alone, without unpacking a pixel: clips damaged inside of a frame, which
    cannot be trained on, are among its clips."""
    return _scan_by(LOOK, folder, progress, num_workers)


def load_clips(
    folder: Path | str,
    pixels: Pixels,
    *,
    cache: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress: Progress | None = None,
    num_workers: int | None = None,
) -> LoadedClips:
    """`scan_folder` with the pixels that training sees; no content is decoded twice, and a file that did not change
    since is not even read.

    cache: where pixels are kept from one start to the next and mapped from; None keeps them in memory
    say: told where the cache cannot take them
    """
    folder = Path(folder)
    listing, metadata = _open(folder)
    found = []
    num_decoded = 0
    with (
        RowCache(cache, pixels.kind, shape=pixels.shape[1:], dtype=np.uint8, say=say) as rows,
        # Hashes that could not be kept cost no more than reading, which is not worth a line.
        RowCache(cache, _hashes_kind(folder), shape=(), dtype=np.uint8, say=lambda line: None) as hashes,
        Workers() as workers,
    ):
        reader = _Reader(listing, metadata, workers, pixels_task(pixels), rows, hashes)
        for outcome in reader.read_all(progress, num_workers):
            if outcome.mark and outcome.sha256:
                hashes.add(outcome.mark, None, {"sha256": outcome.sha256})
            if outcome.facts and rows.facts(outcome.sha256) is None:
                rows.add(outcome.sha256, outcome.frames, outcome.facts)
                num_decoded += 1
            found.append(outcome.item)
    scan = _scan(folder, listing, metadata, found)
    return LoadedClips(scan, [rows.array(record.sha256) for record in scan.clips], num_decoded)


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


def _scan_by(task: Task, folder: Path | str, progress: Progress | None, num_workers: int | None) -> Scan:
    folder = Path(folder)
    listing, metadata = _open(folder)
    with Workers() as workers:
        reader = _Reader(listing, metadata, workers, task)
        return _scan(folder, listing, metadata, [outcome.item for outcome in reader.read_all(progress, num_workers)])


@dataclass(frozen=True)
class _Outcome:
    """What became of a file.

    item: a record, or the reason why there is none
    facts, frames: what was seen of its content; None where nothing is known of it for certain
    mark: what its content can be known by for as long as it is equal; None where nothing is to be relied on
    """

    item: ClipRecord | LeftOut
    sha256: str = ""
    facts: Facts | None = None
    frames: np.ndarray | None = None
    mark: str | None = None


@dataclass(frozen=True)
class _Reader:
    """Reads the files of a folder. rows: by hash of the content; hashes: hashes by `file_mark`."""

    listing: Listing
    metadata: Mapping[str, Metadata]
    workers: Workers
    task: Task
    rows: RowCache | None = None
    hashes: RowCache | None = None

    def read_all(self, progress: Progress | None, num_workers: int | None) -> Iterator[_Outcome]:
        """What became of each file, in the order of the keys."""
        keys = self.listing.clips
        outcomes = in_order(self._read, keys, num_threads=num_workers or usable_cores(), known=self._known)
        for done, outcome in enumerate(outcomes, start=1):
            yield outcome
            if progress:
                progress(done, len(keys))

    def _known(self, key: str) -> _Outcome | None:
        """What is known of a file that did not change since it was read."""
        if self.rows is None or self.hashes is None:
            return None
        known = self.hashes.facts(file_mark(key, (self.listing.clips[key],)) or "")
        facts = self.rows.facts(known["sha256"]) if known else None
        if known is None or facts is None:
            return None
        return self._outcome(key, known["sha256"], facts)

    def _read(self, key: str) -> _Outcome:
        path = self.listing.clips[key]
        try:
            data, mark = read_marked(key, (path,), lambda: read_bytes(path))
            sha256 = hashlib.sha256(data).hexdigest()
            facts = self.rows.facts(sha256) if self.rows else None
            if facts is not None:
                return self._outcome(key, sha256, facts, mark=mark)
            facts, frames = self.workers.decode(self.task, (data,))
        except ClipError as error:
            return _Outcome(LeftOut(key, str(error)))
        return self._outcome(key, sha256, facts, frames, mark)

    def _outcome(
        self, key: str, sha256: str, facts: Facts, frames: np.ndarray | None = None, mark: str | None = None
    ) -> _Outcome:
        return _Outcome(self._item(key, sha256, facts), sha256, facts, frames, mark)

    def _item(self, key: str, sha256: str, facts: Facts) -> ClipRecord | LeftOut:
        if "reason" in facts:
            return LeftOut(key, facts["reason"])
        try:
            text = _caption_text(self.listing.texts.get(stem(key)))
        except ClipError as error:
            return LeftOut(key, str(error))
        words = choose_words(key, text=text, metadata=self.metadata)
        return ClipRecord(
            path=self.listing.clips[key],
            key=key,
            captions=words.captions,
            caption_source=words.source,
            sha256=sha256,
            **facts,
        )


def _hashes_kind(folder: Path) -> str:
    """Where the hashes of a folder's files are kept."""
    return f"files/{hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:32]}"


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
