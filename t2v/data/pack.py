"""A folder of clips as shards: tar files that WebDataset and `shards` read, each clip's file as it is."""

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from t2v.data.folder import ClipRecord, Progress, Scan, scan_folder
from t2v.data.listing import LeftOut
from t2v.data.reading import hash_of, read_contents
from t2v.data.shards import SHARD_ENDING
from t2v.errors import ClipError, DatasetError

NUM_DIGITS = 6
END_BYTES = 2 * tarfile.BLOCKSIZE


@dataclass(frozen=True)
class Packed:
    """The shards that were written, and what they were made from."""

    scan: Scan
    shards: tuple[Path, ...]


def pack_folder(folder: Path | str, out: Path | str, *, max_bytes: int, progress: Progress | None = None) -> Packed:
    """Write the readable clips of a folder and their captions as shards; equal folders give equal shards.

    out: a folder that is empty or not there yet, in which shards appear when all are written
    max_bytes: of a shard; a clip that is larger by itself lies alone
    Clips are dealt out in an order that has nothing to do with their names, as neighbours often look alike and would
    meet in the same batches. Raises DatasetError like `scan_folder`, and where `out` holds something.
    """
    out = Path(out).resolve()  # `.` has no name of its own, and a link is not the folder
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DatasetError(f"{out} holds something already; name a folder that is empty or not there yet")
    scan = _without_frames(scan_folder(folder, progress=progress))
    dealt = sorted(scan.clips, key=lambda clip: hashlib.sha256(clip.key.encode()).digest())
    with _made_at_once(out) as made, closing(_ShardWriter(made, max_bytes)) as writer:
        for number, clip in enumerate(dealt):
            writer.add(f"{number:0{NUM_DIGITS}}", clip)
    return Packed(scan, tuple(sorted(out.glob(f"*{SHARD_ENDING}"))))


class _ShardWriter:
    """Shards of bounded size, one after another."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._shard: tarfile.TarFile | None = None
        self._num_shards = 0

    def add(self, name: str, clip: ClipRecord) -> None:
        files = list(_files(name, clip))
        size = sum(tarfile.BLOCKSIZE * (1 + -(-len(content) // tarfile.BLOCKSIZE)) for _, content in files)
        if self._shard is not None and self._shard.offset + size + END_BYTES > self._max_bytes:
            self.close()
        if self._shard is None:
            path = self._folder / f"{self._num_shards:0{NUM_DIGITS}}{SHARD_ENDING}"
            self._shard = tarfile.open(path, "x", format=tarfile.PAX_FORMAT)  # noqa: SIM115 until it is full
            self._num_shards += 1
        for member, content in files:
            header = tarfile.TarInfo(member)  # without times and owners, which would differ from one start to the next
            header.size = len(content)
            self._shard.addfile(header, io.BytesIO(content))
        # It collects them for an index that nobody asks for.
        self._shard.members.clear()  # type: ignore[attr-defined]

    def close(self) -> None:
        if self._shard is not None:
            self._shard.close()
            self._shard = None


def _without_frames(scan: Scan) -> Scan:
    """A scan without folders of numbered frames: a sample of a shard is one file."""
    kept = tuple(clip for clip in scan.clips if len(clip.paths) == 1)
    reason = "is a folder of frames, of which a shard takes none; make one file of it"
    left_out = [*scan.left_out, *(LeftOut(clip.key, reason) for clip in scan.clips if len(clip.paths) > 1)]
    if not kept:
        raise DatasetError(
            f"{scan.folder} holds only folders of frames, of which a shard takes none; make files of them"
        )
    return replace(scan, clips=kept, left_out=tuple(sorted(left_out, key=lambda item: item.key)))


def _files(name: str, clip: ClipRecord) -> Iterator[tuple[str, bytes]]:
    """The files of a sample: the clip, its captions a line each for other programs, and all that is said of it."""
    try:
        contents = read_contents(clip.paths)
    except ClipError as error:
        raise DatasetError(f"{clip.path} {error}") from None
    if hash_of(contents) != clip.sha256:
        raise DatasetError(f"{clip.path} changed while it was packed; pack once more")
    yield f"{name}{clip.path.suffix.lower()}", contents[0]
    if clip.captions:
        yield f"{name}.txt", "".join(f"{caption}\n" for caption in clip.captions).encode()
    said: dict[str, Any] = {"file_name": clip.key}
    if clip.captions or clip.caption_source == "empty":
        said["captions"] = list(clip.captions)
    if clip.weights:
        said["weights"] = list(clip.weights)
    yield f"{name}.json", json.dumps(said, ensure_ascii=False).encode()


@contextmanager
def _made_at_once(out: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `out` if all went well; a folder that is there stays, as one may stand in it."""
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    part.mkdir(parents=True)
    try:
        yield part
        if out.exists():
            for file in sorted(part.iterdir()):
                file.rename(out / file.name)
        else:
            part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
