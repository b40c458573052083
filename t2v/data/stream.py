"""Clips decoded as they are asked for, a few ahead, and kept no longer: for data larger than memory or disk."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from t2v.data.limits import Limits
from t2v.data.pixels import Pixels
from t2v.data.workers import Workers, in_order, pixels_task
from t2v.errors import ClipError, DatasetError

HELD = 8  # clips that are decoded and may be asked for once more

Seen = np.ndarray | str  # frames, or the reason why there are none


@dataclass(frozen=True)
class Place:
    """Where a clip lies: offset and size of each of its files within one."""

    path: Path
    key: str
    spans: tuple[tuple[int, int], ...]

    def read(self, limits: Limits) -> tuple[bytes, ...]:
        """The contents of its files. Raises ClipError, worded to follow its name."""
        limits.check_bytes(sum(size for _, size in self.spans))
        contents = []
        try:
            with self.path.open("rb") as file:
                for offset, size in self.spans:
                    file.seek(offset)
                    contents.append(file.read(size))
        except OSError as error:
            raise ClipError(f"cannot be read: {error.strerror}") from None
        return tuple(contents)


class StreamedClips(Sequence[np.ndarray]):
    """n arrays, uint8 `f h w c`, each decoded when it is asked for.

    sizes: clips of each shard, which lie one after another in `places`
    say: told once of each clip that turns out to be damaged. The next one of its shard takes its place, the first after
    the last; where a whole shard is damaged, those of the next shard.
    num_workers: processes that decode, while there is something to decode
    """

    def __init__(
        self,
        places: Sequence[Place],
        sizes: Sequence[int],
        pixels: Pixels,
        *,
        say: Callable[[str], None],
        num_workers: int,
    ) -> None:
        self.sizes = tuple(sizes)
        self._ends = list(accumulate(sizes))
        self._places = places
        self._pixels = pixels
        self._say = say
        self._num_workers = num_workers
        self._workers = self._new_workers()
        self._coming: Generator[tuple[int, Seen]] | None = None
        self._held: OrderedDict[int, np.ndarray] = OrderedDict()
        self._damaged: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]  # nobody wants a slice of a stream
        """The frames of a clip. Raises ClipError for a damaged one: `resolve` gives an index that is none."""
        if index not in self._held:
            self._keep(index, self._decode(index, self._workers)[1])
        if index in self._damaged:
            raise ClipError(f"{self._places[index].key} {self._damaged[index]}")
        return self._held[index]

    def follow(self, indices: Iterable[int], *, ahead: int) -> None:
        """Decode ahead from now on: so many clips of those that `resolve` will be asked for, in just that order."""
        workers = self._workers

        def decode(index: int) -> tuple[int, Seen]:
            return self._decode(index, workers)

        self._coming = in_order(decode, indices, num_threads=self._num_workers, ahead=ahead)

    def resolve(self, index: int) -> int:
        """The clip itself, or the one that takes its place because it is damaged: the same one at every visit.

        Raises DatasetError where there is none.
        """
        if self._coming is not None:
            expected, seen = next(self._coming, (index, self._damaged.get(index)))
            assert expected == index
            if seen is not None:
                self._keep(index, seen)
        for candidate in self._line(index):
            if candidate not in self._damaged and candidate not in self._held:
                self._keep(candidate, self._decode(candidate, self._workers)[1])
            if candidate not in self._damaged:
                return candidate
        raise DatasetError(f"none of {len(self)} clips can be read, such as {self._places[index].key}")

    def close(self) -> None:
        """End the processes; the next clip starts them again."""
        if self._coming is not None:
            self._coming.close()
            self._coming = None
        self._workers.close()
        self._workers = self._new_workers()

    def _new_workers(self) -> Workers:
        return Workers(max_seconds=self._pixels.limits.max_decode_s)

    def _line(self, index: int) -> Iterator[int]:
        """A clip and those that take its place, in order."""
        shard = bisect_right(self._ends, index)
        start, end = self._ends[shard] - self.sizes[shard], self._ends[shard]
        yield from range(index, end)
        yield from range(start, index)
        yield from range(end, len(self))
        yield from range(start)

    def _decode(self, index: int, workers: Workers) -> tuple[int, Seen]:
        if index in self._damaged:
            return index, self._damaged[index]
        try:
            facts, frames = workers.decode(pixels_task(self._pixels), self._places[index].read(self._pixels.limits))
        except ClipError as error:
            return index, str(error)
        if frames is None:
            return index, facts["reason"]
        return index, self._pixels.refusal(facts) or frames

    def _keep(self, index: int, seen: Seen) -> None:
        if isinstance(seen, str):
            if index not in self._damaged:
                self._damaged[index] = seen
                self._say(f"left out: {self._places[index].key} {seen}; the next of its shard takes its place")
            return
        self._held[index] = seen
        self._held.move_to_end(index)
        while len(self._held) > HELD:
            self._held.popitem(last=False)
