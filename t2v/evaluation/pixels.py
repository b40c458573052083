"""What every rule of the judge begins with: named colours, and patches of pixels that hang together."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2v.evaluation.reading import UNKNOWN

FloatArray = NDArray[Any]
RGB = tuple[float, float, float]


def nearest_name(
    rgb: FloatArray, names: Mapping[str, RGB], *, farthest: float, sureness: float = 0.75, light: float = 1.0
) -> str:
    """The name of a colour, or "unknown" where none is near or two are nearly as near.

    rgb: 3, in [0, 1]
    farthest: distance beyond which no name fits
    sureness: the nearest name must be nearer than this share of the distance to the second
    light: how much a difference in mere brightness counts; under 1 forgives a clip that is darker as a whole
    """
    differences = np.array(list(names.values())) - rgb
    grey = differences.mean(axis=1, keepdims=True)
    distances = np.linalg.norm(differences - grey * (1 - light), axis=1)
    first, second = np.argsort(distances)[:2]
    if distances[first] > farthest or distances[first] > sureness * distances[second]:
        return UNKNOWN
    return list(names)[first]


class Patch(NamedTuple):
    """Pixels of one frame that hang together (by their sides, not their corners). rows, columns: one entry a pixel."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]


def patches(mask: NDArray[np.bool_], *, least: float) -> list[list[Patch]]:
    """Connected patches of each frame, the largest first. mask: f h w; least: pixels below which a patch is dropped."""
    num_frames, height, width = mask.shape
    # Runs of a row are joined where they touch runs of the row above: far fewer things than pixels.
    padded = np.zeros((num_frames * height, width + 2), np.int8)
    padded[:, 1:-1] = mask.reshape(-1, width)
    steps = np.diff(padded, axis=1)
    run_row, run_start = np.nonzero(steps == 1)
    run_end = np.nonzero(steps == -1)[1]
    run_patch = _joined(run_row, run_start, run_end, height)
    lengths = run_end - run_start
    areas = np.bincount(run_patch, weights=lengths, minlength=1)
    found: list[list[Patch]] = [[] for _ in range(num_frames)]
    for label in sorted(np.flatnonzero(areas >= max(least, 1)), key=lambda label: -areas[label]):
        runs = np.flatnonzero(run_patch == label)
        rows = np.repeat(run_row[runs], lengths[runs])
        columns = np.concatenate([np.arange(run_start[run], run_end[run]) for run in runs])
        found[rows[0] // height].append(Patch(rows % height, columns))
    return found


def _joined(row: NDArray[np.intp], start: NDArray[np.intp], end: NDArray[np.intp], height: int) -> NDArray[np.intp]:
    """A label for each run of pixels, the same for runs that touch. Runs are in order of rows, then columns."""
    parent = list(range(len(row)))

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = parent[parent[run]]
            run = parent[run]
        return run

    rows, starts, ends = row.tolist(), start.tolist(), end.tolist()
    above = 0
    for run, (this_row, this_start, this_end) in enumerate(zip(rows, starts, ends, strict=True)):
        if this_row % height == 0:
            continue  # the first row of a frame lies below the last of another
        while rows[above] < this_row - 1 or (rows[above] == this_row - 1 and ends[above] <= this_start):
            above += 1
        other = above
        while rows[other] == this_row - 1 and starts[other] < this_end:
            parent[root(run)] = root(other)
            other += 1
    return np.array([root(run) for run in range(len(parent))], np.intp)


def blurred(images: FloatArray, sigma: float) -> FloatArray:
    """Images smoothed by a Gaussian that counts only pixels inside the frame. images: ... h w; sigma: pixels."""
    height, width = images.shape[-2:]
    smooth: FloatArray = _gaussian_rows(height, sigma) @ images @ _gaussian_rows(width, sigma).T
    return smooth


def _gaussian_rows(length: int, sigma: float) -> FloatArray:
    places = np.arange(length)
    weights = np.exp(-0.5 * ((places[:, None] - places) / sigma) ** 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
