"""A folder of clips as one list, in which a clip, its captions and its file stay one record.

A clip that cannot be read leaves the list with its captions and a reason, so nothing after it can shift.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from t2v.cache import Facts, RowCache
from t2v.config import DataSettings, FormatName, LimitsSettings
from t2v.data.caption_files import read_captions
from t2v.data.captions import MAX_TEXT_BYTES, CaptionSource, Words, choose_words, fill_template
from t2v.data.listing import LeftOut, Listing, claims_other, list_folder, stem
from t2v.data.marks import file_mark, read_marked
from t2v.data.matching import Metadata
from t2v.data.pixels import Pixels
from t2v.data.reading import hash_of, read_bytes, read_contents
from t2v.data.workers import Task, Workers, in_order, look_task, pixels_task, scan_task, usable_cores
from t2v.errors import ClipError, DatasetError

NAMED_AT_MOST = 5

USUAL = Pixels.of(DataSettings(), LimitsSettings())

Progress = Callable[[int, int], None]
Manifest = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class ClipRecord:
    """One readable clip. `key` is its path below the folder, with `/`; width and height are those of the file.

    path: the file, or the folder of numbered frames; paths: the file, or those frames in order
    captions, weights, doubts: as `captions.Words` has them
    """

    path: Path
    key: str
    captions: tuple[str, ...]
    caption_source: CaptionSource
    num_frames: int
    duration_ms: float
    width: int
    height: int
    sha256: str
    weights: tuple[float, ...] = ()
    doubts: tuple[str, ...] = ()
    format: FormatName = "gif"
    paths: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Scan:
    """What a folder holds, in the order of the keys. `warnings` are whole sentences about what may not be meant so:
    captions lost, missing or doubtful, frames that lack numbers, files of another format than their name claims."""

    folder: Path
    clips: tuple[ClipRecord, ...]
    left_out: tuple[LeftOut, ...]
    warnings: tuple[str, ...]

    @property
    def manifest(self) -> Manifest:
        """Key to content hash and captions, as JSON can hold it: all that training takes from the folder."""
        return {clip.key: _entry(clip) for clip in self.clips}

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


def scan_folder(
    folder: Path | str, pixels: Pixels = USUAL, *, progress: Progress | None = None, num_workers: int | None = None
) -> Scan:
    """Read every clip of a folder, at any depth, and keep what is known of each but not its pixels.

    pixels: says which files are clips, and what they may cost
    progress: called with the files done and the files in all; num_workers: processes, by default one per core
    Raises DatasetError where there is nothing to train on, or where a metadata file cannot be read.
    """
    return _scan_by(scan_task(pixels), folder, pixels, progress, num_workers)


def survey_folder(
    folder: Path | str, pixels: Pixels = USUAL, *, progress: Progress | None = None, num_workers: int | None = None
) -> Scan:
    """`scan_folder` by the structure of the files alone, without unpacking their frames: clips damaged inside of a
    frame, which cannot be trained on, are among its clips."""
    return _scan_by(look_task(pixels), folder, pixels, progress, num_workers)


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
    listing, metadata = _open(folder, pixels)
    found = []
    num_decoded = 0
    with (
        RowCache(cache, pixels.kind, shape=pixels.item_shape, dtype=np.uint8, say=say) as rows,
        # Hashes that could not be kept cost no more than reading, which is not worth a line.
        RowCache(cache, _hashes_kind(folder), shape=(), dtype=np.uint8, say=lambda line: None) as hashes,
        Workers(max_seconds=pixels.limits.max_decode_s) as workers,
    ):
        reader = _Reader(listing, metadata, pixels, workers, pixels_task(pixels), rows, hashes)
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
        "with other captions": [key for key in both if _texts(old[key]) != _texts(new[key])],
    }
    return tuple(f"{count(len(keys), 'clip')} {what}: {some(keys)}" for what, keys in changes.items() if keys)


def with_template(scan: Scan, template: str) -> Scan:
    """The scan with every clip's captions as the template makes them (`captions.fill_template`)."""
    if not template:
        return scan
    clips = tuple(_with_words(clip, fill_template(template, _words(clip))) for clip in scan.clips)
    before, now = _caption_warnings(scan.clips), _caption_warnings(clips)
    others = (warning for warning in scan.warnings if warning not in before)
    return replace(scan, clips=clips, warnings=(*others, *now))


def count(number: int, noun: str) -> str:
    """`1 clip`, `2 clips`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - NAMED_AT_MOST
    return ", ".join(names[:NAMED_AT_MOST]) + (f" and {more:,} more" if more > 0 else "")


def _open(folder: Path, pixels: Pixels) -> tuple[Listing, dict[str, Metadata]]:
    return read_captions(folder, list_folder(folder, formats=pixels.formats))


def _scan_by(
    task: Task, folder: Path | str, pixels: Pixels, progress: Progress | None, num_workers: int | None
) -> Scan:
    folder = Path(folder)
    listing, metadata = _open(folder, pixels)
    with Workers(max_seconds=pixels.limits.max_decode_s) as workers:
        reader = _Reader(listing, metadata, pixels, workers, task)
        return _scan(folder, listing, metadata, [outcome.item for outcome in reader.read_all(progress, num_workers)])


@dataclass(frozen=True)
class _Outcome:
    """What became of a clip.

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
    """Reads the clips of a folder. rows: by hash of the content; hashes: hashes by `file_mark`."""

    listing: Listing
    metadata: Mapping[str, Metadata]
    pixels: Pixels
    workers: Workers
    task: Task
    rows: RowCache | None = None
    hashes: RowCache | None = None

    def read_all(self, progress: Progress | None, num_workers: int | None) -> Iterator[_Outcome]:
        """What became of each clip, in the order of the keys."""
        keys = self.listing.clips
        outcomes = in_order(self._read, keys, num_threads=num_workers or usable_cores(), known=self._known)
        for done, outcome in enumerate(outcomes, start=1):
            yield outcome
            if progress:
                progress(done, len(keys))

    def _known(self, key: str) -> _Outcome | None:
        """What is known of a clip whose files did not change since they were read."""
        if self.rows is None or self.hashes is None:
            return None
        known = self.hashes.facts(file_mark(key, self.listing.clips[key]) or "")
        facts = self.rows.facts(known["sha256"]) if known else None
        if known is None or facts is None:
            return None
        return self._outcome(key, known["sha256"], facts)

    def _read(self, key: str) -> _Outcome:
        paths, max_bytes = self.listing.clips[key], self.pixels.limits.max_bytes
        try:
            contents, mark = read_marked(key, paths, lambda: read_contents(paths, max_bytes=max_bytes))
            sha256 = hash_of(contents)
            facts = self.rows.facts(sha256) if self.rows else None
            if facts is not None:
                return self._outcome(key, sha256, facts, mark=mark)
            facts, frames = self.workers.decode(self.task, contents)
        except ClipError as error:
            return _Outcome(LeftOut(key, str(error)))
        return self._outcome(key, sha256, facts, frames, mark)

    def _outcome(
        self, key: str, sha256: str, facts: Facts, frames: np.ndarray | None = None, mark: str | None = None
    ) -> _Outcome:
        return _Outcome(self._item(key, sha256, facts), sha256, facts, frames, mark)

    def _item(self, key: str, sha256: str, facts: Facts) -> ClipRecord | LeftOut:
        if reason := facts.get("reason") or self.pixels.refusal(facts):
            return LeftOut(key, reason)
        try:
            text = _caption_text(self.listing.texts.get(stem(key)))
        except ClipError as error:
            return LeftOut(key, str(error))
        words = choose_words(key, text=text, metadata=self.metadata)
        paths = self.listing.clips[key]
        return ClipRecord(
            path=paths[0] if len(paths) == 1 else paths[0].parent,
            paths=paths,
            key=key,
            captions=words.captions,
            caption_source=words.source,
            sha256=sha256,
            weights=words.weights,
            doubts=words.doubts,
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
    doubts = (*_lost_captions(listing, metadata), *_caption_warnings(clips))
    return Scan(folder, clips, tuple(left_out), (*listing.notes, *_other_formats(clips), *doubts))


def _other_formats(clips: Sequence[ClipRecord]) -> Iterator[str]:
    """A sentence about files whose names claim another format than they are in, which are read as what they are."""
    others = [f"{clip.key} is a {clip.format} file" for clip in clips if claims_other(clip.key, clip.format)]
    if others:
        yield f"{count(len(others), 'clip')} not of the format that the name claims: {some(others)}"


def _lost_captions(listing: Listing, metadata: Mapping[str, Metadata]) -> Iterator[str]:
    """Sentences about captions that stand beside no clip: a misspelled name is how they usually get lost."""
    stems = {stem(key) for key in listing.clips}
    orphans = sorted(path.name for key, path in listing.texts.items() if key not in stems)
    if orphans:
        yield f"{count(len(orphans), '.txt file')} with no clip of the same name: {some(orphans)}"
    for where, file in metadata.items():
        name = f"{where}/{file.name}" if where else file.name
        if file.lost:
            yield f"{name} names {count(len(file.lost), 'file')} that cannot be used here: {some(sorted(file.lost))}"
        elif not file.said:
            yield f"{name} names no clip"


def _caption_warnings(clips: Sequence[ClipRecord]) -> list[str]:
    """Sentences about clips whose captions are missing or doubtful."""
    doubtful: dict[str, list[str]] = {}
    for clip in clips:
        for doubt in clip.doubts:
            doubtful.setdefault(doubt, []).append(clip.key)
    silent = [clip.key for clip in clips if clip.caption_source == "none"]
    if any(clip.captions for clip in clips) and silent:
        doubtful["without a caption among clips that have one"] = silent
    return [f"{count(len(keys), 'clip')} {doubt}: {some(keys)}" for doubt, keys in doubtful.items()]


def _words(clip: ClipRecord) -> Words:
    return Words(clip.captions, clip.caption_source, clip.weights, clip.doubts)


def _with_words(clip: ClipRecord, words: Words) -> ClipRecord:
    return replace(
        clip, captions=words.captions, caption_source=words.source, weights=words.weights, doubts=words.doubts
    )


def _entry(clip: ClipRecord) -> dict[str, Any]:
    # Weights only where there are some: the manifests of older runs have none.
    weights = {"weights": list(clip.weights)} if clip.weights else {}
    return {"sha256": clip.sha256, "captions": list(clip.captions), **weights}


def _texts(entry: Mapping[str, Any]) -> tuple[list[str], list[float]]:
    return list(entry["captions"]), list(entry.get("weights", ()))
