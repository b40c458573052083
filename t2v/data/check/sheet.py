"""The contact sheet: a strip of pictures for each clip, as training sees them, on one PNG."""

from PIL import Image, ImageDraw, ImageFont

from t2v.data.check.previews import small_pictures
from t2v.data.check.report import Report, Row, spread_over
from t2v.data.check.text import facts_line, printable, summary
from t2v.data.folder import count

MOST_CLIPS = 120
PICTURES = 5  # of a clip, from its first to its last
SIDE = 64
GAP = 2
COLUMNS = 4
MARGIN = 16
LINE = 17
HEAD = 76
STRIP = PICTURES * (SIDE + GAP) - GAP
CELL_WIDTH = STRIP + MARGIN
CELL_HEIGHT = SIDE + 3 * LINE + MARGIN
INK, FAINT, ALARM, PAPER, EDGE = "#1f2328", "#6a737d", "#b45309", "#ffffff", "#d0d7de"


def draw_sheet(report: Report, pattern: str = "*") -> Image.Image:
    """The clips that `pattern` means; of more than MOST_CLIPS some, evenly spread, which the sheet says."""
    rows = list(report.rows(pattern))
    shown = spread_over(rows, MOST_CLIPS)
    columns = min(COLUMNS, len(shown))
    width = max(2 * MARGIN + columns * CELL_WIDTH - MARGIN, 2 * MARGIN + 2 * CELL_WIDTH - MARGIN)
    height = HEAD + -(-len(shown) // columns) * CELL_HEIGHT + MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_head(draw, report, width, num_shown=len(shown), num_rows=len(rows))
    warnings = {finding.kind for finding in report.findings if finding.level == "warning"}
    for number, row in enumerate(shown):
        x, y = MARGIN + number % columns * CELL_WIDTH, HEAD + number // columns * CELL_HEIGHT
        _draw_clip(sheet, draw, row, x, y, alarming=not warnings.isdisjoint(row.findings))
    return sheet


def _draw_head(draw: ImageDraw.ImageDraw, report: Report, width: int, *, num_shown: int, num_rows: int) -> None:
    room = width - 2 * MARGIN
    data = report.recipe.data
    some = "" if num_shown == num_rows else f"; {count(num_shown, 'clip')} of {num_rows:,} are shown, evenly spread"
    seen = f"{data.most_frames} pictures of {data.size} x {data.size}, of which {PICTURES} at most are shown{some}"
    _write(draw, (MARGIN, 14), f"{report.scan.folder}: {summary(report)}", room, size=18, ink=INK)
    _write(draw, (MARGIN, 42), f"{report.verdict}.  {seen}", room, size=13, ink=FAINT)


def _draw_clip(sheet: Image.Image, draw: ImageDraw.ImageDraw, row: Row, x: int, y: int, *, alarming: bool) -> None:
    for column, picture in enumerate(small_pictures(row.frames, most=PICTURES, side=SIDE)):
        enlarged = picture.resize((SIDE, SIDE), Image.Resampling.NEAREST)
        sheet.paste(enlarged, (x + column * (SIDE + GAP), y))
    draw.rectangle((x - 1, y - 1, x + STRIP, y + SIDE), outline=EDGE)
    caption = " / ".join(row.record.captions) or "no caption"
    told = ", ".join([facts_line(row), *(kind.replace("_", " ") for kind in row.findings)])
    _write(draw, (x, y + SIDE + 2), row.record.key, STRIP, size=13, ink=INK)
    _write(draw, (x, y + SIDE + 2 + LINE), caption, STRIP, size=13, ink=INK if row.record.captions else ALARM)
    _write(draw, (x, y + SIDE + 2 + 2 * LINE), told, STRIP, size=12, ink=ALARM if alarming else FAINT)


def _write(draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, room: int, *, size: int, ink: str) -> None:
    """One line, cut where there is no more room."""
    font = ImageFont.load_default(size)
    text = printable(text)
    if draw.textlength(text, font) > room:
        while text and draw.textlength(text + "...", font) > room:
            text = text[: -max(1, len(text) // 20)]
        text += "..."
    draw.text(place, text, font=font, fill=ink)
