"""Where a run keeps what it makes: recipe, plan, log, samples, and saved steps of which the newest whole one wins."""

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from t2v.checkpoint.atomic import file_sha256, sync, write_atomically, write_text
from t2v.errors import RunError

MANIFEST = "manifest.json"
KEPT_STEPS = 3
FIRST_STEP = "step-00000000"
LEFTOVERS = ".*.tmp"  # what a write that was killed leaves behind


@dataclass(frozen=True)
class StepFolder:
    """One saved step: weights, their averages, optimizer and counters, with a manifest of their hashes."""

    path: Path

    @property
    def weights(self) -> Path:
        return self.path / "weights.safetensors"

    @property
    def ema(self) -> Path:
        return self.path / "ema.safetensors"

    def more_ema(self, decay: float) -> Path:
        """A further average, told from the others by its decay as Python writes it."""
        return self.path / f"ema-{decay}.safetensors"

    @property
    def optimizer(self) -> Path:
        return self.path / "optimizer.safetensors"

    @property
    def loss_history(self) -> Path:
        """Where training draws timesteps by their losses: what it goes by."""
        return self.path / "loss_history.safetensors"

    @property
    def state(self) -> Path:
        return self.path / "state.json"

    @property
    def step(self) -> int:
        return int(self.path.name.removeprefix("step-"))

    def seconds(self) -> float:
        """Training time behind this step, over all starts."""
        return float(json.loads(self.state.read_text())["seconds"])

    @staticmethod
    def is_one(path: Path) -> bool:
        return path.name.startswith("step-") and path.name.removeprefix("step-").isdigit() and path.is_dir()

    def is_whole(self) -> bool:
        """Whether every file of the manifest is there with the content it was saved with."""
        try:
            manifest = json.loads((self.path / MANIFEST).read_text())
            return all(file_sha256(self.path / name) == digest for name, digest in manifest.items())
        except (OSError, ValueError, AttributeError):
            return False


@dataclass(frozen=True)
class RunFolder:
    """A run on disk. Every write is whole or not there."""

    path: Path

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.toml"

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def captions(self) -> Path:
        return self.path / "captions.safetensors"

    @property
    def log(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def exists(self) -> bool:
        """Whether a run was started here."""
        return self.plan.is_file()

    def check_free(self) -> None:
        """Raise RunError where the path holds something that is neither a run nor the rest of a start cut short."""
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file; name a folder for the run with --out")
        if self.path.exists() and any(self.path.iterdir()) and not (self.exists() or self._is_unborn()):
            raise RunError(f"{self.path} is not empty and holds no run; name another folder with --out")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others who ask for the same out. Raises RunError where somebody is in.

        The lock lies beside the folder, which may not be there yet and may be set aside meanwhile, and is gone with
        its holder, however that ends; its empty file stays behind a kill and is in nobody's way.
        """
        path = self.path.resolve()
        missing = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.with_name(f".{path.name}.lock")
        lock = FileLock(file)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise RunError(
                f"another process is training {self.path}; wait for its end, or name another --out"
            ) from None
        try:
            yield
        finally:
            with suppress(OSError):  # Windows lets nobody delete a file that is open
                file.unlink(missing_ok=True)  # while it is held: whoever takes it afterwards sees that it is gone
            lock.release()
            with suppress(OSError):  # a run lies there now
                for folder in missing:
                    folder.rmdir()

    def create(self) -> None:
        """Make the folders, over the rest of a start that was cut short. Raises RunError as check_free does."""
        self.check_free()
        if self._is_unborn():
            shutil.rmtree(self.checkpoints, ignore_errors=True)
            for leftover in self.path.glob(LEFTOVERS):
                leftover.unlink()
        self.samples.mkdir(parents=True, exist_ok=True)
        self.checkpoints.mkdir(exist_ok=True)

    def _is_unborn(self) -> bool:
        """Whether all that lies here was left by a start that was killed before it wrote its plan."""
        if self.exists() or not self.path.exists():
            return False
        known = {"samples", "checkpoints"}
        if (self.checkpoints / FIRST_STEP).is_dir():
            known.add(self.recipe.name)  # without a step it is somebody's own file
        return (
            all(entry.name in known or entry.match(LEFTOVERS) for entry in self.path.iterdir())
            and not (self.samples.is_dir() and any(self.samples.iterdir()))
            and all(
                entry.name == FIRST_STEP or entry.match(LEFTOVERS)
                for entry in (self.checkpoints.iterdir() if self.checkpoints.is_dir() else ())
            )
        )

    def set_aside(self) -> Path:
        """Rename the run to a free name beside it and return that; nothing is deleted."""
        number = 1
        while (old := self.path.with_name(f"{self.path.name}.old-{number}")).exists():
            number += 1
        self.path.rename(old)
        return old

    def steps(self) -> list[StepFolder]:
        """Saved steps, oldest first; some may be damaged."""
        if not self.checkpoints.is_dir():
            return []
        found = [StepFolder(path) for path in self.checkpoints.iterdir() if StepFolder.is_one(path)]
        return sorted(found, key=lambda folder: folder.step)

    def newest_step(self) -> StepFolder | None:
        """The newest step that is whole."""
        return next((folder for folder in reversed(self.steps()) if folder.is_whole()), None)

    def save_step(self, step: int, write: Callable[[StepFolder], None]) -> StepFolder:
        """Let `write` fill a folder, list it in a manifest and put it in place; then drop the oldest steps."""
        final = StepFolder(self.checkpoints / f"step-{step:08d}")
        temporary = StepFolder(self.checkpoints / f".{final.path.name}.{uuid.uuid4().hex}.tmp")
        temporary.path.mkdir()
        try:
            self._fill(temporary, write)
        except BaseException:
            shutil.rmtree(temporary.path, ignore_errors=True)  # on a full disk it would keep the next one out
            raise
        if final.path.exists():  # a damaged one: a whole one would have been resumed from
            shutil.rmtree(final.path)
        os.replace(temporary.path, final.path)
        sync(self.checkpoints)
        self._prune()
        return final

    def _fill(self, temporary: StepFolder, write: Callable[[StepFolder], None]) -> None:
        write(temporary)
        files = sorted(temporary.path.iterdir())
        manifest = {file.name: file_sha256(file) for file in files}
        write_atomically(temporary.path / MANIFEST, lambda path: path.write_text(json.dumps(manifest, indent=1)))
        for file in files:
            sync(file)
        sync(temporary.path)

    def _prune(self) -> None:
        for folder in self.steps()[:-KEPT_STEPS]:
            shutil.rmtree(folder.path)
        for leftover in self.checkpoints.glob(LEFTOVERS):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()

    def write_json(self, path: Path, content: Any) -> None:
        """Replace a JSON file of the run."""
        self.write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def write_text(self, path: Path, text: str) -> None:
        """Replace a text file of the run."""
        write_text(path, text)

    def append_log(self, entry: dict[str, Any]) -> None:
        """Add one line to log.jsonl."""
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def read_log(self) -> Iterator[dict[str, Any]]:
        """The lines of log.jsonl; one cut off by a crash is passed over."""
        if not self.log.is_file():
            return
        for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue

    def rewind_log(self, step: int) -> None:
        """Drop the lines after `step`: the steps they tell of are about to be taken again."""
        if self.log.is_file():
            kept = [json.dumps(entry, ensure_ascii=False) for entry in self.read_log() if entry["step"] <= step]
            self.write_text(self.log, "".join(line + "\n" for line in kept))
