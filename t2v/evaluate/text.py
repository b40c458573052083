"""The report as plain lines."""

from collections.abc import Iterator, Sequence
from math import isnan

from t2v.data.check.text import printable
from t2v.data.folder import count
from t2v.evaluate.alignment import Alignment, scores
from t2v.evaluate.likelihood import Likelihood
from t2v.evaluate.likeness import Beside, Likeness
from t2v.evaluate.questions import AT_NIGHT, KINDS
from t2v.evaluate.report import Report
from t2v.evaluation.intervals import Interval
from t2v.training.request import duration

KIND_TITLES = {"one": "one subject", "two": "two subjects", AT_NIGHT: AT_NIGHT}
MISSING = "-"

Row = tuple[str, ...]


def lines_of(report: Report) -> list[str]:
    """What was evaluated, a table for each measure, and at the end what a person should know."""
    return [printable(line) for line in _lines(report)]


def headline(report: Report) -> str:
    """Which model, and how its clips were drawn."""
    about = report.about
    settings = about["settings"]
    curve = settings["guidance_curve"]
    return (
        f"{about['checkpoint']} (sha256 {about['checkpoint_sha256'][:12]}, step {about['step']:,}): "
        f"{count(settings['num_steps'], 'step')} of {settings['sampler']}, "
        f"guidance {curve or format(settings['guidance_scale'], 'g')}, "
        f"{count(settings['num_frames'], 'frame')} of {settings['size']}x{settings['size']}, seed {about['seed']}"
    )


def shown(share: float, interval: Interval) -> str:
    """A share with its interval, in percent."""
    return f"{100 * share:.1f}% ({100 * interval.low:.0f}-{100 * interval.high:.0f})"


def speed(report: Report) -> str:
    """How long a clip takes, and on what."""
    return f"{report.seconds_per_clip:.3g} s a clip, on {report.about['device']} in {report.about['precision']}"


def split_title(split: str) -> str:
    """A split's name as people write it."""
    return split.replace("-", " ")


def alignment_rows(alignment: Alignment) -> Iterator[tuple[str, list[Row]]]:
    """Tables of scores, each with its title: of whole prompts, of attributes and of families; a column a split."""
    splits, kinds = alignment.values("split"), alignment.values("kind")
    head = ("", *map(split_title, splits))
    clips = ("clips", *(f"{len(alignment.of(split)):,}" for split in splits))
    whole = [(KIND_TITLES[kind], *_cells(alignment, "all", kind=kind)) for kind in KINDS if kind in kinds]
    yield "all attributes at once", [head, *whole, clips]
    for kind in kinds:
        names = list(scores(alignment.of(kind=kind)))[1:]
        yield (
            f"{KIND_TITLES[kind]}, by attribute",
            [head, *((name, *_cells(alignment, name, kind=kind)) for name in names)],
        )
    families = alignment.values("family")
    rows = [(family, *_cells(alignment, "all", kind="one", family=family)) for family in families]
    if "one" in kinds:
        yield "one subject, all attributes at once, by family", [head, *rows]


def likelihood_title(likelihood: Likelihood) -> str:
    """The bits per dimension, and how sure they are."""
    sure = _sure(likelihood.standard_error)
    return f"likelihood: {likelihood.mean_bits:.4f} bits per dimension{sure}, of {count(likelihood.num_clips, 'clip')}"


def mixed_bits_line(likelihood: Likelihood) -> str:
    """The same of answers mixed with what the network was shown."""
    sure = _sure(likelihood.mixed_standard_error)
    return f"{likelihood.mean_mixed_bits:.4f}{sure} where answers are mixed with what was shown"


def _sure(error: float) -> str:
    return "" if isnan(error) else f" (standard error {error:.2g})"


def level_rows(likelihood: Likelihood) -> list[Row]:
    """Errors by the level of noise."""
    head = ("timestep", "signal left", "loss", "error of the clean clip")
    levels = ((f"{one.t}", f"{one.signal:.3f}", f"{one.loss:.4g}", f"{one.x0_error:.3g}") for one in likelihood.levels)
    return [head, *levels]


def likeness_title(likeness: Likeness) -> str:
    """What was compared."""
    return f"likeness: {count(likeness.num_clips, 'clip')} drawn, each for the caption of a real one"


def likeness_rows(likeness: Likeness) -> list[Row]:
    """Figures of drawn clips beside those of real ones."""
    figures: dict[str, Beside | None] = {
        "Fréchet distance": likeness.frechet,
        "kernel distance": likeness.kernel,
        "motion energy": likeness.motion,
        "flicker": likeness.flicker,
    }
    rows = [("", "drawn", "real"), *(_beside(name, one) for name, one in figures.items() if one is not None)]
    return rows


def copies_line(likeness: Likeness) -> str:
    """Whether clips are copies of what was trained on."""
    copies = likeness.copies
    if copies is None:
        return f"memorised: not known; {likeness.no_copies}"
    return (
        f"memorised: {shown(copies.share, copies.interval)} lie nearer to one of {likeness.num_known:,} clips of "
        "training than 99% of the held-out clips do; 1% is the floor"
    )


def table(rows: Sequence[Row]) -> Iterator[str]:
    """The rows with their columns below each other, the first flush left and the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        yield "  ".join([f"  {first:<{widths[0]}}", *cells]).rstrip()


def _lines(report: Report) -> Iterator[str]:
    yield headline(report)
    if report.alignment is not None:
        yield from _alignment(report.alignment, report.about["judge_version"])
    if report.real is not None:
        yield ""
        yield f"real clips: {report.real.about}"
    if report.likelihood is not None and report.likelihood.bits:
        yield ""
        yield likelihood_title(report.likelihood)
        yield mixed_bits_line(report.likelihood)
        yield from table(level_rows(report.likelihood))
    if report.likeness is not None:
        yield ""
        yield likeness_title(report.likeness)
        yield from table(likeness_rows(report.likeness))
        yield copies_line(report.likeness)
    if report.seconds_per_clip is not None:
        yield ""
        yield speed(report)
    for note in report.notes:
        yield f"note: {note}"
    yield ""
    yield verdict(report)


def _alignment(alignment: Alignment, judge_version: int) -> Iterator[str]:
    done, asked = len(alignment.judged), alignment.num_asked
    part = "" if done == asked else f" of {asked:,}"
    yield ""
    yield f"alignment: {done:,}{part} clips, by judge {judge_version}; shares that are right, with 95% intervals"
    if not done:
        return
    for title, rows in alignment_rows(alignment):
        yield ""
        yield title
        yield from table(rows)


def _cells(alignment: Alignment, name: str, **which: str) -> Iterator[str]:
    for split in alignment.values("split"):
        score = scores(alignment.of(split, **which)).get(name)
        yield shown(score.share, score.interval) if score is not None and score.num_all else MISSING


def _beside(name: str, figure: Beside) -> Row:
    return (name, f"{figure.drawn:.4g}", MISSING if figure.real is None else f"{figure.real:.4g}")


def verdict(report: Report) -> str:
    """Whether this is all, in a sentence."""
    if report.is_partial:
        return "PARTIAL: stopped before the end; the same command goes on where it was"
    return f"done in {duration(report.seconds)}"
