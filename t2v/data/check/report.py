"""What training would see of a folder, said before any training is paid for."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from t2v.config import Recipe
from t2v.data.check.findings import Examined, Finding, picture_findings, split_findings
from t2v.data.check.looks import Look, look_at
from t2v.data.check.passed_over import passed_over_findings
from t2v.data.check.treatment import picture_ms, treatment
from t2v.data.check.wording import caption_findings, count_words
from t2v.data.folder import ClipRecord, LoadedClips, Progress, Scan, count, load_clips, with_template
from t2v.data.near import near_groups, signature
from t2v.data.pixels import Pixels
from t2v.data.split import split_clips
from t2v.errors import DatasetError

Item = TypeVar("Item")

SIDES = ("training", "held out", "set aside")


@dataclass(frozen=True)
class Row:
    """One clip as the report tells of it.

    frames: uint8 `n h w c`, what training may take from it; side: of the split; place: in the folder's order
    rate: pictures a second, as training sees them; None for a still
    done: what was done to it; findings: their kinds
    """

    place: int
    record: ClipRecord
    look: Look
    frames: np.ndarray
    rate: float | None
    side: str
    done: tuple[str, ...]
    findings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """All but the pixels, as JSON can hold it."""
        paths = {"path": str(self.record.path), "paths": list(map(str, self.record.paths))}
        told = {**asdict(self.record), **paths}
        seen = {**asdict(self.look), "pictures_a_second": None if self.rate is None else round(self.rate, 3)}
        return {**told, "seen": seen, "split": self.side, "done": list(self.done), "findings": list(self.findings)}


@dataclass(frozen=True)
class Report:
    """A folder as training with a recipe would see it, and what a person should know about it.

    findings: warnings first, then notes; words: how many clips' captions have each, the most frequent first
    """

    clips: LoadedClips
    seen: Examined
    findings: tuple[Finding, ...]
    words: Counter[str]

    @property
    def scan(self) -> Scan:
        return self.clips.scan

    @property
    def recipe(self) -> Recipe:
        return self.seen.recipe

    @property
    def is_ok(self) -> bool:
        """Whether every file that looked like a clip is one."""
        return not self.scan.left_out

    @property
    def verdict(self) -> str:
        """One sentence about the folder as a whole."""
        warnings = sum(finding.level == "warning" for finding in self.findings)
        more = f"; {count(warnings, 'warning')}" if warnings else ""
        if self.is_ok:
            return f"ok, every clip is read{more}"
        return f"usable, without the {count(len(self.scan.left_out), 'file')} left out{more}"

    def rows(self, pattern: str = "*") -> Iterator[Row]:
        """The clips of which the name has `pattern` as a part or matches it as a whole, with * and ? as in a shell.

        Raises DatasetError where there is none.
        """
        places = [place for place, record in enumerate(self.scan.clips) if is_match(record.key, pattern)]
        if not places:
            raise DatasetError(f"no clip of {self.scan.folder} is called {pattern!r}; '*' is all of them")
        kinds: dict[str, list[str]] = {}
        for finding in self.findings:
            for key in finding.clips:
                kinds.setdefault(key, []).append(finding.kind)
        held_out, set_aside = set(self.seen.split.held_out), set(self.seen.split.set_aside)
        for place in places:
            record, look = self.scan.clips[place], self.seen.looks[place]
            is_still, fps = record.num_frames == 1, self.recipe.data.fps
            yield Row(
                place=place,
                record=record,
                look=look,
                frames=self.clips.frames[place],
                rate=None if is_still else 1000 / picture_ms(record, look, fps),
                side="held out" if place in held_out else "set aside" if place in set_aside else "training",
                done=treatment(record, look, self.recipe.data),
                findings=tuple(dict.fromkeys(kinds.get(record.key, ()))),
            )

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON can hold it, clip by clip."""
        clips, split = self.scan.clips, self.seen.split
        return {
            "folder": str(self.scan.folder),
            "ok": self.is_ok,
            "verdict": self.verdict,
            "fingerprint": self.scan.fingerprint,
            "settings": {"data": self.recipe.data.model_dump(), "max_tokens": self.recipe.text.max_tokens},
            "num_clips": len(clips),
            "num_frames": sum(clip.num_frames for clip in clips),
            "seconds": round(sum(clip.duration_ms for clip in clips) / 1000, 3),
            "formats": dict(Counter(clip.format for clip in clips)),
            "captioned": sum(bool(clip.captions) for clip in clips),
            "caption_sources": dict(Counter(clip.caption_source for clip in clips)),
            "words": dict(self.words),
            "split": dict(zip(SIDES, map(len, (split.training, split.held_out, split.set_aside)), strict=True)),
            "findings": [asdict(finding) for finding in self.findings],
            "left_out": [asdict(item) for item in self.scan.left_out],
            "warnings": [finding.sentence for finding in self.findings],
            "clips": [row.as_dict() for row in self.rows()],
        }


def check_folder(
    folder: Path | str,
    recipe: Recipe,
    *,
    cache: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress: Progress | None = None,
) -> Report:
    """Read a folder as training with this recipe would, measure every clip, and report; nothing there is changed.

    cache, say: as `load_clips` takes them; progress: told of the files read, then of the clips measured
    Raises DatasetError where there is nothing to train on or a metadata file cannot be read, SettingsError for a
    background that is no colour.
    """
    pixels = Pixels.of(recipe.data, recipe.limits)
    clips = load_clips(folder, pixels, cache=cache, say=say, progress=progress)
    clips = replace(clips, scan=with_template(clips.scan, recipe.text.template))
    looks, signatures = [], []
    # One clip after the other: what is kept of each is small, however large it is.
    for done, frames in enumerate(clips.frames, start=1):
        looks.append(look_at(frames))
        signatures.append(signature(frames))
        if progress:
            progress(done, len(clips.frames))
    near = near_groups(signatures)
    split = split_clips([record.sha256 for record in clips.records], recipe.data.hold_out, near)
    seen = Examined(clips.records, looks, near, split, recipe)
    return Report(clips, seen, _findings(clips.scan, seen), count_words(clips.records))


def is_match(key: str, pattern: str) -> bool:
    """Whether a clip is meant by a name, by a part of it, or by a pattern with * and ?."""
    return pattern.lower() in key.lower() or fnmatchcase(key.lower(), pattern.lower())


def spread_over(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many of them, evenly spread."""
    if len(items) <= most:
        return list(items)
    return [items[index] for index in np.linspace(0, len(items) - 1, most).round().astype(int)]


def _findings(scan: Scan, seen: Examined) -> tuple[Finding, ...]:
    frames = {path.relative_to(scan.folder).as_posix() for clip in scan.clips for path in clip.paths}
    known = frames | {clip.key for clip in scan.clips} | {item.key for item in scan.left_out}
    found = [
        *(Finding("lost_captions", "warning", warning) for warning in scan.warnings),
        *passed_over_findings(scan.folder, known),
        *caption_findings(seen),
        *picture_findings(seen),
        *split_findings(seen),
    ]
    return tuple(sorted(found, key=lambda finding: finding.level != "warning"))
