"""The clips that the page has made: kept for a while in a folder of its own, served by name, then removed."""

import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from t2v.service import GeneratedClip, file_stem, save_clip

MEDIA_TYPES = {"gif": "image/gif", "mp4": "video/mp4", "webp": "image/webp"}
FILE_SIDE = 256  # clips are small: in a file each pixel is enlarged until the clip is about this wide
MAX_CLIPS = 1000
LINGER_S = 5.0  # an answer that has found a clip opens its file well within this
ADDRESS = "/clips/{name}"
FRAMES = "frames.npy"


@dataclass(frozen=True)
class KeptClip:
    """A clip on the shelf. clip: without its frames, which stay on the disk."""

    id: str
    clip: GeneratedClip
    folder: Path
    made: float

    def frames(self) -> np.ndarray:
        """uint8 f h w c. Raises FileNotFoundError when the clip has left the shelf."""
        return np.load(self.folder / FRAMES)

    def address(self, ending: str) -> str:
        """Where a browser finds the clip in a format, below the page's own address."""
        return f"clips/{self.id}.{ending}"

    def download_name(self, ending: str) -> str:
        """What the file should be called on the visitor's disk."""
        return f"{file_stem(self.clip)}.{ending}"


class Shelf:
    """Clips by unguessable names. One that is older than keep_s, or crowded out by newer ones, is gone."""

    def __init__(
        self, folder: Path, *, keep_s: float, max_clips: int = MAX_CLIPS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.folder = folder
        self.keep_s = keep_s
        self._max_clips = max_clips
        self._clock = clock
        self._clips: dict[str, KeptClip] = {}  # oldest first
        self._left: list[tuple[float, Path]] = []  # when a clip left the shelf, and the files that it left behind
        self._changing = threading.Lock()
        self._encoding = threading.Lock()

    def __len__(self) -> int:
        return len(self._clips)

    def add(self, clip: GeneratedClip) -> KeptClip:
        """Keep a clip, and let go of those whose time is over."""
        name = secrets.token_urlsafe(16)
        folder = self.folder / name
        folder.mkdir(parents=True)
        np.save(folder / FRAMES, clip.frames)
        # Not mapped into memory either: each mapping holds a file open, and a process may have no more than 256.
        kept = KeptClip(name, replace(clip, frames=np.empty(0, np.uint8)), folder, self._clock())
        with self._changing:
            self._clips[name] = kept
        self.sweep()
        return kept

    def get(self, name: str) -> KeptClip | None:
        """The clip of that name, if it is still there."""
        return self._clips.get(name)

    def file(self, kept: KeptClip, ending: str) -> Path:
        """The clip as a gif, mp4 or webp with its settings inside; made when it is first asked for.

        Raises FileNotFoundError when the clip has left the shelf.
        """
        path = kept.folder / f"clip.{ending}"
        with self._encoding:
            if not path.exists():
                frames = kept.frames()
                save_clip(replace(kept.clip, frames=frames), path, scale=max(1, FILE_SIDE // frames.shape[2]))
        return path

    def sweep(self) -> None:
        """Let go of the clips whose time is over, and remove the files of those that left a while ago.

        Not both at once: an answer already under way measures a file before it opens it, and must find it still.
        """
        with self._changing:
            now, names = self._clock(), list(self._clips)
            gone = {name for name in names if self._clips[name].made <= now - self.keep_s}
            gone |= set(names[: -self._max_clips])
            self._left += [(now, self._clips.pop(name).folder) for name in gone]
            over = [folder for left, folder in self._left if left <= now - LINGER_S]
            self._left = [(left, folder) for left, folder in self._left if left > now - LINGER_S]
        for folder in over:
            shutil.rmtree(folder, ignore_errors=True)

    def route(self) -> Route:
        """The one way to the files: by the name of a clip that is on the shelf, so that no path can lead elsewhere."""
        return Route(ADDRESS, self._serve)

    def _serve(self, request: Request) -> Response:
        gone = PlainTextResponse("there is no such clip here any more", status_code=404)
        match = re.fullmatch(r"([\w-]+)\.(gif|mp4|webp)", request.path_params["name"])
        kept = self.get(match[1]) if match else None
        if not match or kept is None:
            return gone
        ending = match[2]
        try:
            path = self.file(kept, ending)
        except FileNotFoundError:  # its time ended just now
            return gone
        return FileResponse(
            path,
            media_type=MEDIA_TYPES[ending],
            filename=kept.download_name(ending),
            content_disposition_type="inline",
            headers={"Cache-Control": "private, max-age=3600"},
        )
