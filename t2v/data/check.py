"""What training would read from a folder, said before any training is paid for."""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from t2v.data.captions import mentions_side
from t2v.data.folder import LONG_CAPTION, ClipRecord, Progress, Scan, count, scan_folder

FEW_CLIPS = 8
LONG_MS = 60_000.0


@dataclass(frozen=True)
class Report:
    """A scan, and what a person should know about it. `warnings` are whole sentences, worst first."""

    scan: Scan
    warnings: tuple[str, ...]

    @property
    def is_ok(self) -> bool:
        """Whether every file that looked like a clip is one."""
        return not self.scan.left_out

    def lines(self) -> list[str]:
        """The report as plain text, ending with the verdict."""
        clips = self.scan.clips
        lines = [
            f"{self.scan.folder}: {count(len(clips), 'clip')}, {count(len(self.scan.left_out), 'file')} left out",
            f"  frames    {_spread([clip.num_frames for clip in clips])}",
            f"  seconds   {_spread([clip.duration_ms / 1000 for clip in clips])}",
            f"  pixels    {_sizes(clips)}",
            f"  captions  {_captions(clips)}",
        ]
        lines += [f"  left out  {item.key} {item.reason}" for item in self.scan.left_out]
        lines += [f"  note      {warning}" for warning in self.warnings]
        return [*lines, f"verdict: {self.verdict}"]

    @property
    def verdict(self) -> str:
        """One sentence about the folder as a whole."""
        if self.is_ok:
            return "ok, every clip is read"
        return f"usable, without the {count(len(self.scan.left_out), 'file')} left out"

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON can hold it, clip by clip."""
        return {
            "folder": str(self.scan.folder),
            "ok": self.is_ok,
            "verdict": self.verdict,
            "fingerprint": self.scan.fingerprint,
            "captioned": sum(bool(clip.captions) for clip in self.scan.clips),
            "caption_sources": dict(Counter(clip.caption_source for clip in self.scan.clips)),
            "clips": [
                {**asdict(clip), "path": str(clip.path), "paths": [str(path) for path in clip.paths]}
                for clip in self.scan.clips
            ],
            "left_out": [asdict(item) for item in self.scan.left_out],
            "warnings": list(self.warnings),
        }


def check_folder(folder: Path | str, *, progress: Progress | None = None) -> Report:
    """Read every clip of a folder and report; nothing is changed. Raises DatasetError like `scan_folder`."""
    scan = scan_folder(folder, progress=progress)
    return Report(scan, (*scan.warnings, *_warnings(scan)))


def _warnings(scan: Scan) -> list[str]:
    clips = scan.clips
    silent = sum(not clip.captions for clip in clips)
    stills = sum(clip.num_frames == 1 for clip in clips)
    slow = sum(clip.duration_ms > LONG_MS for clip in clips)
    sided = sum(any(mentions_side(caption) for caption in clip.captions) for clip in clips)
    doubles = len(clips) - len({clip.sha256 for clip in clips})
    sources = {clip.caption_source for clip in clips} - {"none", "empty"}
    said = {
        "no clip has a caption: the model will be unconditional, and prompts will do nothing": silent == len(clips),
        f"{count(scan.num_long, 'clip')} with a caption of more than {LONG_CAPTION} characters, of which an encoder "
        "reads the beginning (text.max_tokens)": scan.num_long > 0,
        f"captions come from different places: {', '.join(sorted(sources))}": len(sources) > 1,
        f"{count(doubles, 'clip')} the same as another, byte for byte": doubles > 0,
        f"{count(stills, 'clip')} with a single frame: stills do not move": stills > 0,
        f"{count(slow, 'clip')} longer than {LONG_MS / 1000:g} s: few moments of each are seen": slow > 0,
        f"{count(sided, 'clip')} never mirrored: a caption says left, right or clockwise": sided > 0,
        f"only {count(len(clips), 'clip')}: a model will repeat them, not learn from them": len(clips) < FEW_CLIPS,
    }
    return [sentence for sentence, holds in said.items() if holds]


def _spread(values: list[int] | list[float]) -> str:
    low, middle, high = min(values), median(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}, half have {middle:g} or less"


def _sizes(clips: tuple[ClipRecord, ...]) -> str:
    sizes = Counter(f"{clip.width} x {clip.height}" for clip in clips)
    shown = [f"{size} ({number})" for size, number in sizes.most_common(3)]
    return ", ".join(shown) + (f" and {len(sizes) - 3} other sizes" if len(sizes) > 3 else "")


def _captions(clips: tuple[ClipRecord, ...]) -> str:
    sources = Counter(clip.caption_source for clip in clips if clip.captions)
    number = sum(len(clip.captions) for clip in clips)
    places = "".join(f", {found} from {source}" for source, found in sources.most_common())
    return f"{number} for {sum(sources.values())} of {len(clips)} clips{places}"
