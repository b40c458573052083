"""A folder of clips as one list, in which a clip, its captions and its file stay one record.

A clip that cannot be read leaves the list with its captions and a reason, so nothing after it can shift.
"""

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from t2v.cache import Facts, RowCache
from t2v.config import DataSettings, FormatName, LimitsSettings
from t2v.data.caption_files import read_captions
from t2v.data.captions import MAX_TEXT_BYTES, CaptionSource, Words, choose_words, fill_template
from t2v.data.listing import LeftOut, Listing, claims_other, list_folder, stem
from t2v.data.matching import Metadata
from t2v.data.pixels import Pixels
from t2v.data.reading import hash_of, look_at_clip, read_bytes, read_contents, scan_clip
from t2v.errors import ClipError, DatasetError

NAMED_AT_MOST = 5
LONG_CAPTION = 300  # characters; English of that length has more tokens than an encoder reads by default

USUAL = Pixels.of(DataSettings(), LimitsSettings())
AHEAD = 4  # files a thread may be ahead of who takes the results

Progress = Callable[[int, int], None]
Manifest = dict[str, dict[str, Any]]
_Contents = tuple[bytes, ...]
_Seen = tuple[Facts, np.ndarray | None]
_T = TypeVar("_T")


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
    def fingerprint(self) -> str:
        """SHA-256 of the manifest: equal for equal clips and captions, wherever the folder lies."""
        return hashlib.sha256(json.dumps(self.manifest, sort_keys=True).encode()).hexdigest()

    @property
    def is_captioned(self) -> bool:
        """Whether any clip has a caption; without one the model is unconditional."""
        return any(clip.captions for clip in self.clips)

    @property
    def num_long(self) -> int:
        """Clips with a caption that is likely to be cut; how many tokens it has, only its encoder knows."""
        return sum(any(len(caption) > LONG_CAPTION for caption in clip.captions) for clip in self.clips)


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
    progress: called with the files done and the files in all; num_workers: threads, by default one per core
    Raises DatasetError where there is nothing to train on, or where a metadata file cannot be read.
    """
    return _scan_by(scan_clip, folder, pixels, progress, num_workers)


def survey_folder(
    folder: Path | str, pixels: Pixels = USUAL, *, progress: Progress | None = None, num_workers: int | None = None
) -> Scan:
    """`scan_folder` by the structure of the files alone, without unpacking their frames: clips damaged inside of a
    frame, which cannot be trained on, are among its clips."""
    return _scan_by(look_at_clip, folder, pixels, progress, num_workers)


def load_clips(
    folder: Path | str,
    pixels: Pixels,
    *,
    cache: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress: Progress | None = None,
    num_workers: int | None = None,
) -> LoadedClips:
    """`scan_folder` with the pixels that training sees; no content is decoded twice.

    cache: where pixels are kept from one start to the next and mapped from; None keeps them in memory
    say: told where the cache cannot take them
    """
    folder = Path(folder)
    listing, metadata = _open(folder, pixels)
    found = []
    num_decoded = 0
    with RowCache(cache, pixels.kind, shape=pixels.shape, dtype=np.uint8, say=say) as rows:

        def look(sha256: str, contents: _Contents) -> tuple[Facts, np.ndarray | None]:
            facts = rows.facts(sha256)
            return _of_one_length(pixels, *pixels.decode(contents)) if facts is None else (facts, None)

        for outcome, sha256, (facts, frames) in _outcomes(listing, metadata, pixels, look, progress, num_workers):
            if sha256 and rows.facts(sha256) is None:
                rows.add(sha256, frames, facts)
                num_decoded += 1
            found.append(outcome)
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


def _of_one_length(pixels: Pixels, facts: Facts, frames: np.ndarray | None) -> _Seen:
    """Stills repeated and windows cut to the head: what a cache of rows of one length can hold."""
    if frames is not None and len(frames) != pixels.num_frames:
        frames = np.resize(frames, pixels.shape) if len(frames) == 1 else frames[: pixels.num_frames]
    return facts, frames


def _open(folder: Path, pixels: Pixels) -> tuple[Listing, dict[str, Metadata]]:
    return read_captions(folder, list_folder(folder, formats=pixels.formats))


def _scan_by(
    facts_in: Callable[..., Facts],
    folder: Path | str,
    pixels: Pixels,
    progress: Progress | None,
    num_workers: int | None,
) -> Scan:
    folder = Path(folder)
    listing, metadata = _open(folder, pixels)

    def look(sha256: str, contents: _Contents) -> tuple[Facts, None]:
        try:
            return facts_in(contents, limits=pixels.limits, sequence_fps=pixels.sequence_fps), None
        except ClipError as error:
            return {"reason": str(error)}, None

    outcomes = _outcomes(listing, metadata, pixels, look, progress, num_workers)
    return _scan(folder, listing, metadata, [outcome for outcome, _, _ in outcomes])


def _outcomes(
    listing: Listing,
    metadata: Mapping[str, Metadata],
    pixels: Pixels,
    look: Callable[[str, _Contents], _Seen],
    progress: Progress | None,
    num_workers: int | None,
) -> Iterator[tuple[ClipRecord | LeftOut, str, _Seen]]:
    """What became of each clip, in the order of the keys: a record or a reason, the hash of its content ("" where it
    cannot be read) and what was seen of that.

    look: gives facts, with a `reason` among them where the content is no good clip, and whatever else; called by
    several threads
    """

    def read(key: str) -> tuple[ClipRecord | LeftOut, str, _Seen]:
        try:
            contents = read_contents(listing.clips[key], max_bytes=pixels.limits.max_bytes)
        except ClipError as error:
            return LeftOut(key, str(error)), "", ({}, None)
        sha256 = hash_of(contents)
        seen = look(sha256, contents)
        return _outcome(key, sha256, seen[0], listing, metadata, pixels), sha256, seen

    for done, outcome in enumerate(_in_order(read, listing.clips, num_workers or os.cpu_count() or 1), start=1):
        yield outcome
        if progress:
            progress(done, len(listing.clips))


def _in_order(work: Callable[[str], _T], keys: Iterable[str], num_workers: int) -> Iterator[_T]:
    """Results of `work` on several threads, in the order of the keys; few are finished before they are asked for, so
    that those of a large folder never fill the memory."""
    waiting: deque[Future[_T]] = deque()
    with ThreadPoolExecutor(num_workers) as pool:
        for key in keys:
            waiting.append(pool.submit(work, key))
            if len(waiting) > AHEAD * num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _outcome(
    key: str, sha256: str, facts: Facts, listing: Listing, metadata: Mapping[str, Metadata], pixels: Pixels
) -> ClipRecord | LeftOut:
    if reason := facts.get("reason") or pixels.refusal(facts):
        return LeftOut(key, reason)
    try:
        text = _caption_text(listing.texts.get(stem(key)))
    except ClipError as error:
        return LeftOut(key, str(error))
    words = choose_words(key, text=text, metadata=metadata)
    paths = listing.clips[key]
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
