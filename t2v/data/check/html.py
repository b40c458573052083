"""The report as one page that a browser opens from the disk: no script, nothing from elsewhere.

All names and captions are strangers' text and escaped here. Pictures are backgrounds named by classes, so that a clip
shown in several places is in the file once.
"""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib import resources

import t2v
from t2v.data.check.findings import Finding
from t2v.data.check.previews import data_address, small_pictures
from t2v.data.check.report import Report, Row, spread_over
from t2v.data.check.text import facts_line, printable, totals
from t2v.data.folder import count

MOST_CLIPS = 300
MOST_OF_A_FINDING = 12
MOST_LEFT_OUT = 200
MOST_WORDS = 120
MOST_CAPTIONS = 4
PICTURES = 16
SIDE = 96


def page_of(report: Report, pattern: str = "*") -> str:
    """The page, with the clips that `pattern` means.

    Of more than MOST_CLIPS these are the ones that findings name, and others evenly spread. One takes about 8 KB.
    """
    rows = list(report.rows(pattern))
    shown = _chosen(report, rows)
    by_key = {row.record.key: row for row in shown}
    title = _text(f"{report.scan.folder.resolve().name}: what training would see")
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            # Said twice, to a reader and to the browser: the page asks for nothing.
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
            "style-src 'unsafe-inline'\">",
            f"<title>{title}</title>",
            f"<style>{_style()}{''.join(map(_pictures, shown))}</style></head><body>",
            *_head(report),
            *_findings(report, by_key),
            *_words(report),
            *_clips(shown, num_rows=len(rows), levels={item.kind: item.level for item in report.findings}),
            f"<footer>Made by t2v {t2v.__version__}. No file of the folder was changed.</footer></body></html>",
        ]
    )


def _chosen(report: Report, rows: Sequence[Row]) -> list[Row]:
    named = {key for finding in report.findings for key in _keys_shown(finding)}
    first = [row for row in rows if row.record.key in named][:MOST_CLIPS]
    others = [row for row in rows if row.record.key not in named]
    return sorted([*first, *spread_over(others, MOST_CLIPS - len(first))], key=lambda row: row.place)


def _keys_shown(finding: Finding) -> tuple[str, ...]:
    return finding.clips[:MOST_OF_A_FINDING]


def _style() -> str:
    return (resources.files("t2v.data.check") / "report.css").read_text(encoding="utf-8")


def _pictures(row: Row) -> str:
    """The rules that give the class of a clip its pictures; still ones for who wants no motion."""
    pictures = small_pictures(row.frames, most=PICTURES, side=SIDE)
    shown_ms = row.record.duration_ms / len(pictures)
    still = data_address(pictures[len(pictures) // 2 :][:1], picture_ms=shown_ms)
    rules = f".p{row.place}{{background-image:url({still})}}"
    if len(pictures) > 1:
        moving = data_address(pictures, picture_ms=shown_ms)
        rules += f"@media(prefers-reduced-motion:no-preference){{.p{row.place}{{background-image:url({moving})}}}}"
    return rules + "\n"


def _head(report: Report) -> Iterator[str]:
    scan, data = report.scan, report.recipe.data
    warned = any(finding.level == "warning" for finding in report.findings)
    kind = "bad" if scan.left_out else "warning" if warned else "good"
    yield f"<h1>{_text(str(scan.folder))}</h1>"
    yield f'<p class="verdict {kind}">{_text(report.verdict)}</p>'
    seconds = sum(clip.duration_ms for clip in scan.clips) / 1000
    captioned = sum(bool(clip.captions) for clip in scan.clips)
    tiles = {
        "clips": f"{len(scan.clips):,}",
        "left out": f"{len(scan.left_out):,}",
        "frames": f"{sum(clip.num_frames for clip in scan.clips):,}",
        "seconds": f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.2g}",
        "with a caption": f"{captioned / len(scan.clips):.0%}",
        "words": f"{len(report.words):,}",
    }
    if data.hold_out:
        tiles["held out"] = f"{len(report.seen.split.held_out):,}"
    yield '<div class="tiles">'
    yield from (f"<div><b>{number}</b><span>{name}</span></div>" for name, number in tiles.items())
    yield "</div><dl>"
    yield from (f"<dt>{_text(name)}</dt><dd>{_text(told)}</dd>" for name, told in totals(report))
    yield "</dl>"


def _findings(report: Report, by_key: dict[str, Row]) -> Iterator[str]:
    left_out = report.scan.left_out
    if not (left_out or report.findings):
        return
    yield "<h2>What was found</h2>"
    if left_out:
        yield f'<div class="finding bad"><span class="kind">left out</span>{count(len(left_out), "file")}'
        yield '<ul class="left-out">'
        yield from (f"<li><b>{_text(item.key)}</b> {_text(item.reason)}</li>" for item in left_out[:MOST_LEFT_OUT])
        if len(left_out) > MOST_LEFT_OUT:
            yield f"<li>and {len(left_out) - MOST_LEFT_OUT:,} more</li>"
        yield "</ul></div>"
    for finding in report.findings:
        yield f'<div class="finding {finding.level}"><span class="kind">{finding.level}</span>{_text(finding.sentence)}'
        yield from _strip(finding, by_key)
        yield "</div>"


def _strip(finding: Finding, by_key: dict[str, Row]) -> Iterator[str]:
    """Previews of the clips that a finding is about, those that belong together in one frame."""
    keys = _keys_shown(finding)
    if not keys:
        return
    yield '<div class="strip">'
    if finding.groups:
        for group in finding.groups:
            together = "".join(_mini(key, by_key) for key in group if key in keys)
            if together:
                yield f'<div class="group">{together}</div>'
    else:
        yield from (_mini(key, by_key) for key in keys)
    if len(finding.clips) > len(keys):
        yield f'<span class="faint">and {len(finding.clips) - len(keys):,} more</span>'
    yield "</div>"


def _mini(key: str, by_key: dict[str, Row]) -> str:
    name = f'<span class="name">{_text(key)}</span>'
    row = by_key.get(key)
    if row is None:
        return f'<div class="mini">{name}</div>'
    return f'<a class="mini" href="#clip-{row.place}">{_picture(row)}{name}</a>'


def _words(report: Report) -> Iterator[str]:
    if not report.words:
        return
    rare = sum(number == 1 for number in report.words.values())
    yield "<h2>Words of the captions</h2>"
    number = count(len(report.words), "word")
    yield f'<p class="faint">{number}, each with the clips that have it; {rare:,} in one clip only</p>'
    yield '<ul class="words">'
    common = report.words.most_common(MOST_WORDS)
    yield from (f"<li>{_text(word)} <b>{number:,}</b></li>" for word, number in common)
    yield "</ul>"


def _clips(shown: Sequence[Row], *, num_rows: int, levels: dict[str, str]) -> Iterator[str]:
    yield "<h2>Clips as training sees them</h2>"
    if len(shown) < num_rows:
        yield (
            f'<p class="faint">{len(shown):,} of {num_rows:,}: those that findings name, and others evenly spread. '
            "Others can be had with --clips.</p>"
        )
    yield '<div class="clips">'
    yield from (_figure(row, levels) for row in shown)
    yield "</div>"


def _figure(row: Row, levels: dict[str, str]) -> str:
    captions = row.record.captions
    said = "".join(f"<p>{_text(caption)}</p>" for caption in captions[:MOST_CAPTIONS])
    if len(captions) > MOST_CAPTIONS:
        said += f'<p class="faint">and {len(captions) - MOST_CAPTIONS} more</p>'
    facts = "; ".join([facts_line(row), *row.done])
    tags = [(kind.replace("_", " "), levels[kind]) for kind in row.findings]
    if row.side != "training":
        tags.append((row.side, "note"))
    return (
        f'<figure id="clip-{row.place}">{_picture(row)}<figcaption><b>{_text(row.record.key)}</b>'
        f'{said or _no_caption()}<p class="faint">{_text(facts)}</p>{"".join(_tags(tags))}</figcaption></figure>'
    )


def _no_caption() -> str:
    return '<p class="faint">no caption</p>'


def _tags(tags: Iterable[tuple[str, str]]) -> Iterator[str]:
    return (f'<span class="tag {level}">{_text(name)}</span>' for name, level in tags)


def _picture(row: Row) -> str:
    label = _text(" / ".join(row.record.captions) or row.record.key)
    return f'<span class="picture p{row.place}" role="img" aria-label="{label}"></span>'


def _text(text: str) -> str:
    return escape(printable(text))
