"""The sheet and the page show the clips that training sees, are bounded, and take strangers' text as text."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t2v.data.check import html, sheet
from t2v.data.check.html import page_of
from t2v.data.check.report import Report, check_folder
from t2v.data.check.sheet import draw_sheet
from t2v.data.video_files import write_clip
from t2v.reading import load_recipe

EVIL = '"><script>alert(1)</script><img src=https://example.org/x onerror="alert(2)">'
VOID = {"meta", "img", "br"}


def shades(number: int) -> np.ndarray:
    """Four frames, each of one shade that no other clip has: uint8 f h w 3."""
    colours = np.random.default_rng(number).integers(0, 256, (4, 3), np.uint8)
    return colours[:, None, None].repeat(16, axis=1).repeat(16, axis=2)


def put(folder: Path, name: str, number: int, caption: str = "a shade") -> None:
    folder.mkdir(exist_ok=True)
    write_clip(folder / f"{name}.gif", shades(number), frame_ms=100, metadata=None)
    (folder / f"{name}.txt").write_text(caption, encoding="utf-8")


def report_of(folder: Path, **data: object) -> Report:
    asked = {"size": 16, "num_frames": 4} | data
    return check_folder(folder, load_recipe("tiny", {f"data.{key}": str(value) for key, value in asked.items()}))


class Reader(HTMLParser):
    """The tags of a page that closes every one it opens, with what their attributes say, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data


def pictures_of(page: str, place: int) -> list[Image.Image]:
    """The still and the moving picture of a clip."""
    found = re.findall(rf"\.p{place}{{background-image:url\(data:image/webp;base64,([^)]*)\)}}", page)
    return [Image.open(io.BytesIO(base64.b64decode(content)), formats=["WEBP"]) for content in found]


def test_the_page_shows_each_clip_moving_as_training_sees_it(tmp_path):
    for number in range(3):
        put(tmp_path / "clips", f"{number}", number)
    report = report_of(tmp_path / "clips", num_frames=2)
    page = page_of(report)
    for row in report.rows():
        still, moving = pictures_of(page, row.place)
        assert (still.n_frames, moving.n_frames) == (1, 2)
        for number, frame in enumerate(row.frames):
            moving.seek(number)
            assert np.abs(np.asarray(moving.convert("RGB")).astype(int) - frame).mean() < 6
            assert moving.info["duration"] == 200
    assert "prefers-reduced-motion:no-preference" in page


def test_the_page_is_one_file_without_a_script_that_asks_for_nothing(tmp_path):
    put(tmp_path / "clips", "one", 1)
    page = page_of(report_of(tmp_path / "clips"))
    read = Reader(page)
    assert {"script", "link", "iframe", "object", "img"}.isdisjoint(read.tags)
    assert ("content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in read.attributes
    assert all(address.startswith("data:image/webp;base64,") for address in re.findall(r"url\(([^)]*)\)", page))
    assert "http" not in re.sub("http-equiv", "", page) and "@import" not in page
    assert "prefers-color-scheme: dark" in page and "width=device-width" in page


@pytest.mark.parametrize("where", ["name", "caption", "folder", "left out", "metadata", "word"])
def test_what_strangers_write_is_text_in_the_page(tmp_path, where):
    name = EVIL.replace("/", "\u2215")  # a slash cannot be in a name
    folder = tmp_path / (name if where == "folder" else "clips")
    put(folder, name if where == "name" else "one", 1, caption=EVIL if where in ("caption", "word") else "a shade")
    put(folder, "two", 1, caption=f"{EVIL} again" if where == "caption" else "a shade")
    if where == "left out":
        (folder / f"{name}.gif").write_bytes(b"")
    if where == "metadata":
        (folder / "metadata.csv").write_text('file_name,caption\n"' + EVIL.replace('"', '""') + '",x\n')
    read = Reader(page_of(report_of(folder)))
    assert {"script", "img"}.isdisjoint(read.tags)
    assert not any(key.startswith("on") for key, _ in read.attributes)
    if where != "word":
        assert (EVIL if where in ("caption", "metadata") else name) in read.text


def test_the_page_says_what_was_found_and_what_was_left_out(tmp_path):
    folder = tmp_path / "clips"
    for number in range(3):
        put(folder, f"{number}", number)
    (folder / "twin.gif").write_bytes((folder / "1.gif").read_bytes())
    (folder / "cut.gif").write_bytes(b"GIF89a")
    report = report_of(folder, hold_out=0.5)
    text = Reader(page_of(report)).text
    assert report.verdict in text and "cut.gif breaks off" in text
    assert all(finding.sentence in text for finding in report.findings)
    assert "same file" in text and "held out" in text


def test_of_many_clips_the_page_and_the_sheet_show_some_and_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr(html, "MOST_CLIPS", 5)
    monkeypatch.setattr(html, "MOST_OF_A_FINDING", 1)
    monkeypatch.setattr(sheet, "MOST_CLIPS", 5)
    folder = tmp_path / "clips"
    for number in range(20):
        put(folder, f"{number:02}", number)
    write_clip(folder / "07.gif", shades(7)[:1], frame_ms=100, metadata=None)
    report = report_of(folder)
    page = page_of(report)
    assert page.count("<figure ") == 5 and 'id="clip-7"' in page  # the still, which a finding names
    assert "5 of 20: those that findings name, and others evenly spread" in page
    assert page_of(report, "07.gif").count("<figure ") == 1
    five = draw_sheet(report)
    assert five.height == sheet.HEAD + 2 * sheet.CELL_HEIGHT + sheet.MARGIN
    assert draw_sheet(report, "07.gif").height < five.height


@pytest.mark.parametrize(("channels", "num_frames", "size"), [(1, 1, 8), (3, 4, 16), (4, 12, 160)])
def test_the_sheet_shows_first_to_last_pictures_of_every_kind_of_clip(tmp_path, channels, num_frames, size):
    folder = tmp_path / "clips"
    put(folder, "a" * 90, 1, caption="w" * 5000)
    report = report_of(folder, channels=channels, num_frames=num_frames, size=size)
    drawn = np.asarray(draw_sheet(report)).astype(int)
    (row,) = report.rows()
    shown = min(num_frames, sheet.PICTURES)
    for column, frame in ((0, row.frames[0]), (shown - 1, row.frames[-1])):
        middle = drawn[sheet.HEAD + sheet.SIDE // 2, sheet.MARGIN + column * (sheet.SIDE + sheet.GAP) + sheet.SIDE // 2]
        assert (np.abs(middle - frame[0, 0][: min(channels, 3)]) <= 1).all()
    strip_end = sheet.MARGIN + sheet.STRIP + 2
    assert (drawn[sheet.HEAD :, strip_end:] == 255).all()  # long names and captions are cut


def test_pictures_of_equal_reports_are_equal(tmp_path):
    for number in range(3):
        put(tmp_path / "clips", f"{number}", number)
    one, two = report_of(tmp_path / "clips"), report_of(tmp_path / "clips")
    assert page_of(one) == page_of(two)
    assert draw_sheet(one).tobytes() == draw_sheet(two).tobytes()
