"""The report as plain lines."""

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median

from t2v.data.check.report import Report, Row
from t2v.data.folder import ClipRecord, count, some

SIZES_SHOWN = 3
WORDS_SHOWN = 12


def lines_of(report: Report, pattern: str | None = None) -> list[str]:
    """Totals, what was found, and the verdict last; before it, clip by clip, those that `pattern` means.

    Raises DatasetError where it means none.
    """
    return [printable(line) for line in _lines(report, pattern)]


def printable(text: str) -> str:
    """Text of strangers with whatever would steer a terminal or turn the writing around spelled out."""
    joiner = "\u200d"  # holds an emoji of several people together
    return "".join(
        letter if letter.isprintable() or letter == joiner else letter.encode("unicode_escape").decode()
        for letter in text
    )


def _lines(report: Report, pattern: str | None) -> Iterator[str]:
    yield f"{report.scan.folder}: {summary(report)}"
    for name, told in totals(report):
        yield _line(name, told)
    for item in report.scan.left_out:
        yield _line("left out", f"{item.key} {item.reason}")
    for finding in report.findings:
        yield _line(finding.level, finding.sentence)
        if finding.clips:
            yield _line("", _named(finding.groups) if finding.groups else some(finding.clips))
    for row in report.rows(pattern) if pattern is not None else ():
        yield ""
        yield from clip_lines(row)
    yield f"verdict: {report.verdict}"


def summary(report: Report) -> str:
    """How many clips there are and how many are not."""
    return f"{count(len(report.scan.clips), 'clip')}, {count(len(report.scan.left_out), 'file')} left out"


def totals(report: Report) -> Iterator[tuple[str, str]]:
    """What is known of all clips together, as names and values."""
    clips, data, split = report.scan.clips, report.recipe.data, report.seen.split
    kind = {1: "grey", 3: "colour", 4: "colour with transparency"}[data.channels]
    background = "" if data.channels == 4 else f", on {data.background} where transparent"
    pictures = f"{count(data.most_frames, 'picture')} of {data.size} x {data.size} in {kind}"
    yield "seen as", f"{pictures}, made square by data.fit={data.fit}{background}"
    yield "formats", _counted(Counter(clip.format for clip in clips))
    yield "frames", spread([clip.num_frames for clip in clips])
    yield "seconds", spread([clip.duration_ms / 1000 for clip in clips])
    if rates := [row.rate for row in report.rows() if row.rate is not None]:
        yield "rate", f"{spread(rates)} pictures a second as seen"
    yield "pixels", _counted(Counter(f"{clip.width} x {clip.height}" for clip in clips))
    yield "captions", _captions(clips)
    if report.words:
        yield "words", f"{count(len(report.words), 'word')}; {_counted(report.words, WORDS_SHOWN)}"
    if data.hold_out:
        training, out, aside = map(len, (split.training, split.held_out, split.set_aside))
        near = f", {aside} set aside as too near to them" if aside else ""
        yield "held out", f"{count(out, 'clip')} ({100 * data.hold_out:g}% of all){near}; {training} to train on"


def facts_line(row: Row) -> str:
    """What is seen of one clip, in a few words."""
    clip = row.record
    frames = count(clip.num_frames, "frame")
    seen = "" if row.rate is None else f" in {clip.duration_ms / 1000:.3g} s"
    return f"{clip.width} x {clip.height}, {frames}{seen}"


def clip_lines(row: Row) -> Iterator[str]:
    """One clip."""
    clip, look = row.record, row.look
    yield clip.key
    yield _line("file", f"{clip.format}, {facts_line(row)}")
    if row.rate is not None:
        seen = f"{count(look.num_pictures, 'picture')}, {row.rate:.3g} a second"
        yield _line("seen", f"{seen}; {look.num_changes} of them differ from the one before")
    if row.done:
        yield _line("done", "; ".join(row.done))
    yield _line("motion", f"{look.motion:.3g} of 255 from picture to picture; brightness {look.brightness:.3g}")
    for caption in clip.captions or ("none",):
        yield _line("caption", caption if caption == "none" else f"{caption}  ({clip.caption_source})")
    if row.side != "training":
        yield _line("split", row.side)
    if row.findings:
        yield _line("found", ", ".join(kind.replace("_", " ") for kind in row.findings))


def spread(values: Sequence[float]) -> str:
    """From the least to the most, and the middle."""
    low, middle, high = (f"{value:.3g}" for value in (min(values), median(values), max(values)))
    return low if low == high else f"{low} to {high}, half have {middle} or less"


def _line(name: str, told: str) -> str:
    return f"  {name:<9} {told}"


def _named(groups: Sequence[Sequence[str]]) -> str:
    return some(
        [" = ".join(group[:4]) + (f" and {len(group) - 4:,} more" if len(group) > 4 else "") for group in groups]
    )


def _counted(counted: Counter[str], shown: int = SIZES_SHOWN) -> str:
    parts = [f"{what} ({number:,})" for what, number in counted.most_common(shown)]
    return ", ".join(parts) + (f" and {len(counted) - shown:,} others" if len(counted) > shown else "")


def _captions(clips: Sequence[ClipRecord]) -> str:
    sources = Counter(clip.caption_source for clip in clips if clip.captions)
    number = sum(len(clip.captions) for clip in clips)
    places = "".join(f", {found} from {source}" for source, found in sources.most_common())
    return f"{number} for {sum(sources.values())} of {len(clips)} clips{places}"
