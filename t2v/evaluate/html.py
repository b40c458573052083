"""The report as one page that a browser opens from the disk: no script, nothing from elsewhere.

It shows judged clips, right ones too, and every one that is wrong. Prompts and names are escaped here. Pictures are
backgrounds named by classes, so that a clip shown twice is in the file once, and those out of sight are not drawn.
"""

from collections.abc import Callable, Iterator, Sequence
from html import escape
from importlib import resources

import numpy as np

import t2v
from t2v.data.check.previews import data_address, small_pictures
from t2v.data.check.report import spread_over
from t2v.data.check.text import printable
from t2v.data.folder import count
from t2v.data.near import as_rgb
from t2v.evaluate.alignment import Alignment, Judged, Score, mismatches, scores
from t2v.evaluate.likelihood import Likelihood
from t2v.evaluate.likeness import Likeness
from t2v.evaluate.report import Report
from t2v.evaluate.text import (
    KIND_TITLES,
    MISSING,
    Row,
    copies_line,
    headline,
    level_rows,
    likelihood_title,
    likeness_rows,
    likeness_title,
    mixed_bits_line,
    split_title,
    verdict,
)

NUM_SHOWN = 200  # judged clips, right or wrong
PICTURES = 16
SIDE = 96

FramesOf = Callable[[Judged], np.ndarray]


def page_of(report: Report, frames_of: FramesOf) -> str:
    """The page. frames_of: a judged clip, uint8 f h w c"""
    judged = [] if report.alignment is None else report.alignment.judged
    shown = spread_over(sorted(judged, key=_sorting), NUM_SHOWN)
    wrong = [one for one in judged if not one.is_right]
    named = {id(one): f"c{place}" for place, one in enumerate(judged)}
    picture_ms = 1000 / report.about["settings"]["fps"]
    rules = [
        _pictures(named[id(one)], frames_of(one), picture_ms)
        for one in judged
        if not one.is_right or any(one is other for other in shown)
    ]
    pairs = () if report.likeness is None or report.likeness.copies is None else report.likeness.copies.pairs
    for place, pair in enumerate(pairs):
        rules += [_pictures(f"d{place}", pair.drawn, picture_ms), _pictures(f"k{place}", pair.known, picture_ms)]
    title = _text(f"{report.about['checkpoint']}: how good it is")
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            # Said twice, to a reader and to the browser: the page asks for nothing.
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
            "style-src 'unsafe-inline'\">",
            f"<title>{title}</title>",
            f"<style>{_style()}{''.join(rules)}</style></head><body>",
            *_head(report),
            *_alignment(report.alignment),
            *_likelihood(report.likelihood),
            *_likeness(report.likeness),
            *_shown(shown, named, num_judged=len(judged)),
            *_failures(wrong, named),
            f"<footer>Made by t2v {t2v.__version__}; docs/evaluation.md says what each figure means.</footer>",
            "</body></html>",
        ]
    )


def _style() -> str:
    """The style of the clip doctor's page, and what is new here."""
    files = (resources.files("t2v.data.check") / "report.css", resources.files("t2v.evaluate") / "report.css")
    return "".join(file.read_text(encoding="utf-8") for file in files)


def _pictures(name: str, frames: np.ndarray, picture_ms: float) -> str:
    """The rules that give a class its pictures; still ones for who wants no motion."""
    pictures = small_pictures(as_rgb(frames), most=PICTURES, side=SIDE)
    shown_ms = picture_ms * len(frames) / len(pictures)
    still = data_address(pictures[len(pictures) // 2 :][:1], picture_ms=shown_ms)
    moving = data_address(pictures, picture_ms=shown_ms)
    return (
        f".{name}{{background-image:url({still})}}"
        f"@media(prefers-reduced-motion:no-preference){{.{name}{{background-image:url({moving})}}}}\n"
    )


def _head(report: Report) -> Iterator[str]:
    yield f"<h1>{_text(report.about['checkpoint'])}</h1>"
    kind = "warning" if report.is_partial else "good"
    yield f'<p class="verdict {kind}">{_text(verdict(report))}</p>'
    yield f"<p>{_text(headline(report))}</p>"
    about = report.about
    yield (
        f'<p class="faint">judge {about["judge_version"]}, prompts {_text(about["prompts_sha256"][:12])}, '
        f"{_text(about['device'])} in {_text(about['precision'])}</p>"
    )
    tiles = dict(_tiles(report))
    if tiles:
        yield '<div class="tiles">'
        yield from (f"<div><b>{_text(number)}</b><span>{_text(name)}</span></div>" for name, number in tiles.items())
        yield "</div>"
    if report.notes:
        yield '<ul class="notes">'
        yield from (f"<li>{_text(note)}</li>" for note in report.notes)
        yield "</ul>"
    if report.real is not None:
        yield f'<p class="faint">Real clips: {_text(report.real.about)}</p>'


def _tiles(report: Report) -> Iterator[tuple[str, str]]:
    """The figures that people look for first."""
    if report.alignment is not None:
        for split in report.alignment.values("split"):
            clips = report.alignment.of(split, "one")
            if clips:
                yield f"one subject, {split_title(split)}", f"{scores(clips)['all'].share:.1%}"
    if report.likelihood is not None and report.likelihood.bits:
        yield "bits per dimension", f"{report.likelihood.mean_bits:.3f}"
        yield "bits, mixed with what was shown", f"{report.likelihood.mean_mixed_bits:.3f}"
    if report.likeness is not None:
        yield "Fréchet distance", f"{report.likeness.frechet.drawn:.3g}"
        if report.likeness.copies is not None:
            yield "memorised", f"{report.likeness.copies.share:.1%}"
    if report.seconds_per_clip is not None:
        yield "seconds a clip", f"{report.seconds_per_clip:.3g}"


def _alignment(alignment: Alignment | None) -> Iterator[str]:
    if alignment is None or not alignment.judged:
        return
    splits = alignment.values("split")
    yield "<h2>Alignment: clips that show all that was asked for</h2>"
    yield '<p class="faint">Below each share stand the ends of its 95% interval (Wilson).</p>'
    rows = [(KIND_TITLES[kind], [alignment.of(split, kind) for split in splits]) for kind in alignment.values("kind")]
    yield from _score_table(splits, [(name, "all", clips) for name, clips in rows])
    for title, clips in rows:
        names = list(scores([one for some in clips for one in some]))[1:]
        yield f"<h3>{_text(title.capitalize())}, by attribute</h3>"
        yield from _score_table(splits, [(name, name, clips) for name in names])
    families = [(name, [alignment.of(split, "one", name) for split in splits]) for name in alignment.values("family")]
    if any(clips for _, some in families for clips in some):
        yield "<h3>One subject, by family</h3>"
        yield from _score_table(splits, [(name, "all", clips) for name, clips in families])


def _score_table(splits: Sequence[str], rows: Sequence[tuple[str, str, Sequence[list[Judged]]]]) -> Iterator[str]:
    """A row for each name with the scores of its clips, a column a split."""
    head = "".join(f"<th>{_text(split_title(split))}</th>" for split in splits)
    yield f'<div class="scroll"><table><tr><th></th>{head}</tr>'
    for title, name, clips in rows:
        cells = "".join(_score_cell(scores(some).get(name)) for some in clips)
        yield f"<tr><th>{_text(title)}</th>{cells}</tr>"
    yield "</table></div>"


def _score_cell(score: Score | None) -> str:
    if score is None or not score.num_all:
        return f"<td>{MISSING}</td>"
    low, high = score.interval
    told = f"{score.num_right} of {score.num_all}"
    return (
        f'<td class="score" style="--share:{score.share:.1%}" title="{told}"><b>{score.share:.1%}</b>'
        f"<small>{100 * low:.0f}-{100 * high:.0f}</small></td>"
    )


def _likelihood(likelihood: Likelihood | None) -> Iterator[str]:
    if likelihood is not None and likelihood.bits:
        yield f"<h2>{_text(likelihood_title(likelihood).capitalize())}</h2>"
        yield f"<p>{_text(mixed_bits_line(likelihood))}</p>"
        yield from _plain_table(level_rows(likelihood))


def _likeness(likeness: Likeness | None) -> Iterator[str]:
    if likeness is None:
        return
    yield f"<h2>{_text(likeness_title(likeness).capitalize())}</h2>"
    yield from _plain_table(likeness_rows(likeness))
    yield f"<p>{_text(copies_line(likeness).capitalize())}</p>"
    if likeness.copies is not None:
        yield "<details><summary>The drawn clips that lie nearest to a clip of training, beside it</summary>"
        yield '<div class="clips">'
        for place, pair in enumerate(likeness.copies.pairs):
            both = _picture(f"d{place}", "drawn") + _picture(f"k{place}", "of training")
            yield (
                f'<figure><div class="pair">{both}</div>'
                f'<figcaption><p>{_text(pair.caption) or "no caption"}</p><p class="faint">{pair.distance:.1f} of 255 '
                "apart</p></figcaption></figure>"
            )
        yield "</div></details>"


def _plain_table(rows: Sequence[Row]) -> Iterator[str]:
    head, *others = rows
    yield f'<div class="scroll"><table><tr>{"".join(f"<th>{_text(cell)}</th>" for cell in head)}</tr>'
    for first, *cells in others:
        yield f"<tr><th>{_text(first)}</th>{''.join(f'<td>{_text(cell)}</td>' for cell in cells)}</tr>"
    yield "</table></div>"


def _shown(shown: Sequence[Judged], named: dict[int, str], *, num_judged: int) -> Iterator[str]:
    if not shown:
        return
    spread = "" if len(shown) == num_judged else f"{len(shown)} of {num_judged:,} clips, evenly spread. "
    yield f'<h2>Judged clips</h2><p class="faint">{spread}The dot says whether all is as asked.</p>'
    yield '<div class="clips">'
    yield from (_figure(one, named[id(one)]) for one in shown)
    yield "</div>"


def _failures(wrong: Sequence[Judged], named: dict[int, str]) -> Iterator[str]:
    if not wrong:
        return
    yield f"<h2>All failures: {count(len(wrong), 'clip')}</h2>"
    for group in dict.fromkeys(map(_group, sorted(wrong, key=_sorting))):
        clips = [one for one in wrong if _group(one) == group]
        yield f"<details><summary>{_text(group)}: {len(clips):,}</summary>"
        yield '<div class="clips">'
        yield from (_figure(one, named[id(one)]) for one in clips)
        yield "</div></details>"


def _figure(one: Judged, name: str) -> str:
    """A clip, what was asked, and what is seen in its place where that differs."""
    prompt = one.question.prompt
    lines = "".join(
        f"<li><b>{_text(item.attribute)}</b> {_text(item.asked)}, seen: {_text(item.seen)}</li>"
        for item in mismatches(one)
    )
    state = "right" if one.is_right else "wrong"
    wrong = f'<ul class="wrong">{lines}</ul>' if lines else ""
    dot = f'<i role="img" aria-label="{state}"></i>'
    return (
        f'<figure class="{state}">{_picture(name, prompt.caption)}<figcaption><p>{dot}{_text(prompt.caption)}</p>'
        f'{wrong}<p class="faint">{_text(_group(one))}, seed {one.question.seed}</p>'
        "</figcaption></figure>"
    )


def _picture(name: str, label: str) -> str:
    return f'<span class="picture {name}" role="img" aria-label="{_text(label)}"></span>'


def _group(one: Judged) -> str:
    prompt = one.question.prompt
    what = prompt.facts["family"] if prompt.kind == "one" else KIND_TITLES[prompt.kind]
    return f"{what}, {split_title(prompt.split)}"


def _sorting(one: Judged) -> tuple[str, str, int, int]:
    prompt = one.question.prompt
    return (prompt.kind, prompt.split, one.question.place, one.question.repeat)


def _text(text: str) -> str:
    return escape(printable(text))
