"""The checkpoints that a visitor may choose from, and those that are loaded."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from t2v.checkpoint import Header, box_path, read_header
from t2v.checkpoint.run_folder import RunFolder
from t2v.errors import CheckpointError
from t2v.service import GenerationService

BOX = "the model in the box"
MAX_LOADED = 2


@dataclass(frozen=True)
class _Loaded:
    version: object
    service: GenerationService


class Models:
    """Names that a visitor may choose, never paths: what is not on the list cannot be opened from the page.

    runs: folder of run folders, each offered by its newest step
    checkpoints: folder of .safetensors files
    chosen: a file or run that was named on the command line; it comes first
    """

    def __init__(
        self,
        *,
        runs: Path,
        checkpoints: Path,
        chosen: Path | None = None,
        device: str = "auto",
        precision: str = "fp32",
    ) -> None:
        self._runs = runs
        self._checkpoints = checkpoints
        self._chosen = chosen
        self._device = device
        self._precision = precision
        self._loaded: dict[str, _Loaded] = {}  # least recently used first
        self._loading = threading.Lock()

    def names(self) -> list[str]:
        """What can be chosen now, the best guess first."""
        return list(self._paths())

    def service(self, name: str) -> GenerationService:
        """The model of that name, loaded once and again only when a run has gone on.

        Raises CheckpointError for a name that is not on the list, or a file that is broken.
        """
        path = self._path(name)
        with self._loading:
            version = _version(path)
            loaded = self._loaded.pop(name, None)
            if loaded is None or loaded.version != version:
                service = GenerationService.load(path, device=self._device, precision=self._precision)
                loaded = _Loaded(version, service)
            self._loaded[name] = loaded
            while len(self._loaded) > MAX_LOADED:
                del self._loaded[next(iter(self._loaded))]
            return loaded.service

    def header(self, name: str) -> Header:
        """What the model of that name says of itself, without loading it. Raises CheckpointError as service does."""
        return read_header(self._path(name))

    def made(self, checkpoint: str) -> str | None:
        """The name here of a model that calls itself so in the clips it made."""
        run, _, step = checkpoint.partition("/")
        for name, path in self._paths().items():
            if path.name == checkpoint or (step and path.is_dir() and path.name == run):
                return name
        return None

    def _path(self, name: str) -> Path:
        path = self._paths().get(name)
        if path is None:
            raise CheckpointError(f"there is no checkpoint {name!r} here any more; choose another")
        return path

    def _paths(self) -> dict[str, Path]:
        """Names in the order of the list. Every name is that of one path only."""
        found: dict[str, Path] = {}
        for name, path in self._candidates():
            if path.resolve() not in {other.resolve() for other in found.values()}:
                found.setdefault(name, path)
        return found

    def _candidates(self) -> Iterator[tuple[str, Path]]:
        if self._chosen is not None:
            yield str(self._chosen), self._chosen
        with suppress(CheckpointError):  # an installation without one
            yield BOX, box_path()
        for file in sorted(self._checkpoints.glob("*.safetensors")):
            yield f"{self._checkpoints.name}/{file.name}", file
        for run in sorted(self._runs.iterdir()) if self._runs.is_dir() else ():
            if RunFolder(run).steps():
                yield f"{self._runs.name}/{run.name}", run


def _version(path: Path) -> object:
    """Something that changes when the weights behind a path do, found without reading them."""
    steps = RunFolder(path).steps() if path.is_dir() else []
    file = steps[-1].ema if steps else path
    try:
        status = file.stat()
    except OSError as error:
        raise CheckpointError(f"there is no checkpoint {path}: {error.strerror}") from None
    return file, status.st_mtime_ns, status.st_size
