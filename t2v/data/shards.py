"""Clips in shards: tar files as WebDataset lays them out, read where they lie, for data larger than memory or disk.

A sample is a run of files of one name up to the first dot of its last part: `000123.gif`, `000123.txt`. Only headers
and captions are read at a start, and remembered for as long as a shard does not change; the clips are decoded as
training comes to them (`stream`).
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from t2v.cache import Facts, RowCache
from t2v.data import captions, tar
from t2v.data.captions import MAX_TEXT_BYTES, Words, choose_words
from t2v.data.folder import USUAL, ClipRecord, LoadedClips, Manifest, Progress, Scan, some
from t2v.data.listing import ENDINGS, PICTURES, LeftOut, list_folder
from t2v.data.marks import file_mark, read_marked
from t2v.data.matching import Metadata
from t2v.data.metadata_rows import CAPTION_COLUMNS, Said, knows_any, said_by
from t2v.data.pixels import Pixels, code_fingerprint
from t2v.data.stream import Place, StreamedClips
from t2v.data.tar import Member, read_members
from t2v.data.workers import Workers, in_order, look_task, usable_cores
from t2v.errors import ClipError, DatasetError

SHARD_ENDING = ".tar"
# Where a sample has several, what moves comes before a picture, which may be its thumbnail.
CLIP_ENDINGS = tuple(sorted(ENDINGS, key=lambda ending: ENDINGS[ending] in PICTURES))
TEXT_ENDINGS = (".txt", ".caption")
MAX_JSON_BYTES = 16 * MAX_TEXT_BYTES  # captions with their weights, their file, and what other programs say
NUM_LOOKED_AT = 32  # clips whose facts stand for all
BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")


@dataclass(frozen=True)
class ShardScan(Scan):
    """What shards hold, in the order of their names. A clip that was not looked at has no facts: all are 0.

    sizes: clips of each shard; names, hashes: of each shard, hashes of its headers and captions, not of its pictures
    """

    sizes: tuple[int, ...]
    names: tuple[str, ...]
    hashes: tuple[str, ...]

    @property
    def manifest(self) -> Manifest:
        """Shard to hash, captions and number of clips, as JSON can hold it."""
        manifest: Manifest = {}
        end = 0
        for name, sha256, size in zip(self.names, self.hashes, self.sizes, strict=True):
            end += size
            texts = {caption for clip in self.clips[end - size : end] for caption in clip.captions}
            manifest[name] = {"sha256": sha256, "captions": sorted(texts), "num_clips": size}
        return manifest


def find_shards(path: Path) -> tuple[Path, ...]:
    """The shards that a path names: a .tar, several in the notation `{000..099}` or `{a,b}`, or a folder of them.

    Returns none where it names something else. Raises DatasetError for a shard that is not there, and for a folder
    where shards lie among clips.
    """
    if path.is_dir():
        shards = tuple(sorted(entry for entry in path.iterdir() if _is_shard(entry)))
        if shards and _holds_clips(path):
            raise DatasetError(
                f"{path} holds both clips and shards such as {shards[0].name}; give each a folder of its own"
            )
        return shards
    if path.suffix.lower() != SHARD_ENDING or (not path.exists() and not BRACES.search(str(path))):
        return ()
    shards = (path,) if path.exists() else tuple(map(Path, _expanded(str(path))))
    missing = [str(shard) for shard in shards if not shard.is_file()]
    if missing:
        raise DatasetError(f"{path} names shards that are not there: {some(missing)}")
    return tuple(dict.fromkeys(shards))


def scan_shards(
    shards: Sequence[Path],
    pixels: Pixels = USUAL,
    *,
    cache: Path | None = None,
    look_at: int | None = None,
    progress: Progress | None = None,
) -> ShardScan:
    """What shards hold, by their headers and captions.

    pixels: says what a clip may cost

    cache: where that is remembered; look_at: clips whose blocks are looked at, spread over all, by default all
    progress: called with the shards done and the shards in all
    Raises DatasetError where there is nothing to train on.
    """
    return _scan(shards, pixels, cache=cache, look_at=look_at, progress=progress)[0]


def load_shards(
    shards: Sequence[Path],
    pixels: Pixels,
    *,
    cache: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress: Progress | None = None,
    num_workers: int | None = None,
) -> LoadedClips:
    """`scan_shards` of a few clips with the pixels of all, each decoded when it is asked for and kept no longer.

    say: told of each clip that turns out to be damaged; num_workers: processes that decode, by default one per core
    """
    scan, places = _scan(shards, pixels, cache=cache, look_at=NUM_LOOKED_AT, progress=progress)
    stream = StreamedClips(places, scan.sizes, pixels, say=say, num_workers=num_workers or usable_cores())
    return LoadedClips(scan, stream, num_decoded=0)


def _scan(
    shards: Sequence[Path], pixels: Pixels, *, cache: Path | None, look_at: int | None, progress: Progress | None
) -> tuple[ShardScan, list[Place]]:
    top = Path(os.path.commonpath([shard.resolve().parent for shard in shards]))
    names = tuple(shard.resolve().relative_to(top).as_posix() for shard in shards)
    records: list[ClipRecord] = []
    places: list[Place] = []
    left_out: list[LeftOut] = []
    sizes, hashes = [], []
    with RowCache(cache, _index_kind(top), shape=(), dtype=np.uint8, say=lambda line: None) as known:
        indices = in_order(_index, shards, num_threads=usable_cores(), known=lambda shard: _known(shard, known))
        for done, (shard, name, (index, mark)) in enumerate(zip(shards, names, indices, strict=True), start=1):
            if mark:
                known.add(mark, None, index)
            left_out += [LeftOut(f"{name}/{key}" if key else name, reason) for key, reason in index["left_out"]]
            for key, spans, *words in index["samples"]:
                places.append(Place(shard, f"{name}/{key}", tuple(map(tuple, spans))))
                records.append(_record(shard, places[-1].key, *words))
            sizes.append(len(index["samples"]))
            hashes.append(hashlib.sha256(json.dumps(index["samples"]).encode()).hexdigest())
            if progress:
                progress(done, len(shards))
        if not records:
            reasons = some([f"{item.key} {item.reason}" for item in left_out])
            raise DatasetError(f"{shards[0]} and its like hold no clip ({reasons or 'no file that could be one'})")
        records = _looked_at(records, places, pixels, look_at, known)
    return ShardScan(top, tuple(records), tuple(left_out), (), tuple(sizes), names, tuple(hashes)), places


def _record(
    shard: Path, key: str, texts: Sequence[str], source: captions.CaptionSource, weights: Sequence[float]
) -> ClipRecord:
    """A clip of which nothing is known but its captions."""
    return ClipRecord(
        path=shard,
        key=key,
        captions=tuple(texts),
        caption_source=source,
        weights=tuple(weights),
        num_frames=0,
        duration_ms=0.0,
        width=0,
        height=0,
        sha256="",
    )


def _looked_at(
    records: list[ClipRecord], places: Sequence[Place], pixels: Pixels, look_at: int | None, known: RowCache
) -> list[ClipRecord]:
    """The records with the facts of some clips, spread over all. known: where facts of clips are kept, too"""
    number = len(records) if look_at is None else min(look_at, len(records))
    chosen = np.linspace(0, len(records) - 1, number).round().astype(int).tolist()
    reasons = []

    def mark(index: int) -> str | None:
        """None where the shard itself is not one that is known by its mark."""
        place = places[index]
        shard_mark = file_mark(str(place.path.resolve()), (place.path,)) or ""
        return f"{shard_mark} {place.spans}" if known.facts(shard_mark) else None

    def look(index: int) -> Facts:
        try:
            return workers.decode(look_task(pixels), places[index].read(pixels.limits))[0]
        except ClipError as error:
            return {"reason": str(error)}

    with Workers(max_seconds=pixels.limits.max_decode_s) as workers:
        all_facts = in_order(
            look, chosen, num_threads=usable_cores(), known=lambda index: known.facts(mark(index) or "")
        )
        for index, facts in zip(chosen, all_facts, strict=True):
            if key := mark(index):
                known.add(key, None, facts)
            if "reason" in facts:
                reasons.append(f"{records[index].key} {facts['reason']}")
            else:
                records[index] = replace(records[index], **facts)
    if len(reasons) == number:
        raise DatasetError(f"no clip of {number} that were looked at can be read ({some(reasons)})")
    return records


def _index_kind(top: Path) -> str:
    """Where the indices of the shards below a folder are kept: those by the code that reads them now."""
    digest = hashlib.sha256(os.fsencode(top) + code_fingerprint().encode())
    for module in (captions.__file__, tar.__file__, __file__):
        digest.update(Path(module).read_bytes())
    return f"shards/{digest.hexdigest()[:32]}"


def _known(shard: Path, indices: RowCache) -> tuple[Facts, None] | None:
    facts = indices.facts(file_mark(str(shard.resolve()), (shard,)) or "")
    return None if facts is None else (facts, None)


def _index(shard: Path) -> tuple[Facts, str | None]:
    """What a shard holds, as JSON can hold it, and the mark to remember it by.

    samples: name of the clip, offset and size of each of its files, captions and where they are from
    left_out: name and reason; the name is empty for the shard as a whole
    """
    return read_marked(str(shard.resolve()), (shard,), lambda: _read_index(shard))


def _read_index(shard: Path) -> Facts:
    members, broken = read_members(shard)
    samples: list[list[Any]] = []
    left_out = [["", broken]] if broken else []
    with shard.open("rb") as file:
        for stem, run in groupby(members, key=lambda member: _split(member.name)[0]):
            files = {_split(member.name)[1]: member for member in run}
            ending = next((ending for ending in CLIP_ENDINGS if ending in files), None)
            if ending is None:
                continue
            key, clip = stem + ending, files[ending]
            try:
                words = _words(key, files, file)
            except ClipError as error:
                left_out.append([key, str(error)])
            else:
                said = (words.captions, words.source, words.weights)
                samples.append([key, [[clip.offset, clip.size]], *said])
    return {"samples": samples, "left_out": left_out}


def _split(name: str) -> tuple[str, str]:
    """A name up to the first dot of its last part, and what follows: `a.b/c.D.e` is `a.b/c` and `.d.e`."""
    folder, slash, last = name.rpartition("/")
    stem, dot, ending = last.partition(".")
    return folder + slash + stem, (dot + ending).lower()


def _words(key: str, files: Mapping[str, Member], file: BinaryIO) -> Words:
    """Captions of a sample: those in its .json, or its .txt, or its name."""
    if ".json" in files and (said := _said_in(_content(files[".json"], file, MAX_JSON_BYTES))) is not None:
        return choose_words(key, text=None, metadata={"": Metadata("its .json", {key: said}, ())})
    text = next((_content(files[ending], file, MAX_TEXT_BYTES) for ending in TEXT_ENDINGS if ending in files), None)
    return choose_words(key, text=text, metadata={})


def _content(member: Member, file: BinaryIO, max_bytes: int) -> str:
    name = member.name.rpartition("/")[2]
    if member.size > max_bytes:
        raise ClipError(f"has a caption file {name} of more than {max_bytes >> 10} KB")
    file.seek(member.offset)
    try:
        return file.read(member.size).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ClipError(f"has a caption file {name} that is not UTF-8 text") from None


def _said_in(content: str) -> Said | None:
    """The captions in a sample's .json with their weights; None where it says nothing of them."""
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
        raise ClipError("has a .json that is damaged") from None
    if not isinstance(told, dict) or not knows_any(told, CAPTION_COLUMNS):
        return None
    try:
        return said_by(Path(".json"), "of its sample", told)
    except DatasetError as error:
        raise ClipError(f"has a {error}") from None


def _is_shard(path: Path) -> bool:
    return path.suffix.lower() == SHARD_ENDING and not path.name.startswith(".") and path.is_file()


def _holds_clips(folder: Path) -> bool:
    try:
        return bool(list_folder(folder).clips)
    except DatasetError:
        return False


def _expanded(pattern: str) -> Iterator[str]:
    """Every name that a pattern with braces stands for, in the order that it says."""
    parts = BRACES.split(pattern)
    choices = [_choices(part) if number % 2 else [part] for number, part in enumerate(parts)]
    return map("".join, product(*choices))


def _choices(inside: str) -> Iterable[str]:
    found = RANGE.fullmatch(inside)
    if found is None:
        return inside.split(",")
    first, last = found.groups()
    width = len(first) if len(first) == len(last) else 0
    return [str(number).zfill(width) for number in range(int(first), int(last) + 1)]
