"""Do we see in animated pictures what a browser shows? Every frame and delay of ours beside Chromium's.

    python benchmarks/browser_frames.py FOLDER [FOLDER ...] [--chromium /usr/bin/chromium] [--every 1] [--json FILE]

Every GIF, WebP and PNG of the folders, by content, is decoded in Chromium by ImageDecoder (WebCodecs), which gives the
canvas of each frame as the page would be painted with it, and how long the file asks for it to be shown. Colours under
full transparency are no matter. A few units of difference come from rounding: Chromium keeps colours multiplied by
alpha. It hands out delays as they stand in the file; that it shows a frame of 10 ms or less for 100 ms was seen by
looking at pages with animations that play once.
"""

import argparse
import base64
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from t2v.data.readers import open_clip, recognise
from t2v.data.readers.opened import shown_ms
from t2v.data.reading import read_bytes, unpack
from t2v.errors import ClipError

ADDRESS = "http://127.0.0.1/"  # a secure context, which WebCodecs asks for; nothing is served, it is only named
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--force-color-profile=srgb"),
]
TYPES = {"gif": "image/gif", "webp": "image/webp", "png": "image/png"}
ROUNDING = 3  # of 255, in colours that are seen through alpha

SCRIPT = """
<script>
let decoder;
async function openFile(content, type) {
  const data = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
  decoder = new ImageDecoder({data, type, colorSpaceConversion: "none"});
  await decoder.completed;
  await decoder.tracks.ready;
  return decoder.tracks.selectedTrack.frameCount;
}
async function frame(frameIndex) {
  const {image, complete} = await decoder.decode({frameIndex, completeFramesOnly: true});
  const options = {format: "RGBA", colorSpace: "srgb"};
  const pixels = new Uint8Array(image.allocationSize(options));
  await image.copyTo(pixels, options);
  const found = {width: image.codedWidth, height: image.codedHeight, duration: image.duration, complete};
  image.close();
  let text = "";
  for (let start = 0; start < pixels.length; start += 32768)
    text += String.fromCharCode(...pixels.subarray(start, start + 32768));
  return {...found, pixels: btoa(text)};
}
</script>
"""


def main() -> None:
    """Print a line for each file and the totals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--every", type=int, default=1, help="take every so many of the files")
    parser.add_argument("--json", type=Path, help="also write the rows there")
    asked = parser.parse_args()
    rows = list(compared(asked.folders, asked.chromium, asked.every))
    for row in rows:
        print("  ".join(f"{row[name]!s:<{width}}" for name, width in (("file", 52), ("outcome", 12), ("told", 0))))
    print(dict(Counter(row["outcome"] for row in rows)))
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1))
    sys.exit(any(row["outcome"] == "differs" for row in rows))


def compared(folders: list[Path], chromium: str, every: int) -> Iterator[dict[str, Any]]:
    """A row for each picture file: `same`, `rounding`, `differs`, `we refuse` what it shows, `only we read`, or
    `both refuse`."""
    from playwright.sync_api import sync_playwright

    paths = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page()
        page.route("**/*", lambda route: route.fulfill(body=SCRIPT, content_type="text/html"))
        page.goto(ADDRESS)
        for path in paths[::every]:
            data = read_bytes(path)
            try:
                kind = recognise(data)
            except ClipError:
                continue
            if kind in TYPES:
                yield {"file": path.name, **_compare(page, data, TYPES[kind])}
        browser.close()


def _compare(page: Any, data: bytes, kind: str) -> dict[str, Any]:
    theirs = _browser_frames(page, data, kind)
    first = next(theirs)  # what went wrong, or the number of frames
    try:
        opened = open_clip((data,), sequence_fps=10)
        size = (opened.height, opened.width, 4)
        ours = iter(unpack(opened, lambda ms: np.arange(len(ms)), np.copy, shape=size).frames)
    except ClipError as error:
        seen = first if isinstance(first, str) else f"{sum(1 for _ in theirs)} of {first} frames"
        return {"outcome": "both refuse" if isinstance(first, str) else "we refuse", "told": f"{error}; theirs: {seen}"}
    if isinstance(first, str):
        return {"outcome": "only we read", "told": first}
    worst, worst_opaque, differing, delays = 0, 0, 0, []
    for number, (mine, found) in enumerate(zip(ours, theirs, strict=False)):
        if isinstance(found, str):
            return {"outcome": "only we read", "told": f"frame {number + 1}: {found}"}
        canvas, delay_ms = found
        if canvas.shape != mine.shape:
            return {"outcome": "differs", "told": f"size {mine.shape[:2]}, theirs {canvas.shape[:2]}"}
        gap = _difference(mine, canvas)
        worst = max(worst, int(gap.max()))
        opaque = (mine[..., 3] == 255) & (canvas[..., 3] == 255)
        worst_opaque = max(worst_opaque, int(gap[opaque].max(initial=0)))
        differing += int((gap > ROUNDING).any())
        if len(opened.frame_ms) > 1 and abs(shown_ms(delay_ms) - opened.frame_ms[number]) > 0.01:
            delays.append((number + 1, float(opened.frame_ms[number]), delay_ms))
    told = f"{len(opened.frame_ms)} frames, theirs {first}; worst {worst}, opaque {worst_opaque}"
    if differing or delays or first != len(opened.frame_ms):
        return {"outcome": "differs", "told": f"{told}; {differing} frames; delays {delays[:3]}"}
    return {"outcome": "rounding" if worst else "same", "told": told}


def _difference(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Greatest difference of a pixel's alpha, or of its colours as far as they are seen: `h w`."""
    mine, theirs = mine.astype(np.int32), theirs.astype(np.int32)
    alphas = mine[..., 3], theirs[..., 3]
    colours = np.abs(mine[..., :3] * alphas[0][..., None] - theirs[..., :3] * alphas[1][..., None]).max(axis=-1)
    return np.maximum(colours // 255, np.abs(alphas[0] - alphas[1]))


def _browser_frames(page: Any, data: bytes, kind: str) -> Iterator[Any]:
    """First the number of frames, then of each the canvas `h w 4` and the delay in ms; or what went wrong, and the
    end."""
    from playwright.sync_api import Error

    try:
        count = page.evaluate("([content, type]) => openFile(content, type)", [base64.b64encode(data).decode(), kind])
        yield count
        for number in range(count):
            found = page.evaluate("number => frame(number)", number)
            pixels = np.frombuffer(base64.b64decode(found["pixels"]), dtype=np.uint8)
            yield pixels.reshape(found["height"], found["width"], 4), (found["duration"] or 0) / 1000
    except Error as error:
        yield str(error).splitlines()[0][:100]


if __name__ == "__main__":
    main()
