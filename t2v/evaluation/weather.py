"""The judge's rules for the family `weather`: many light drops or flakes that fall together before a clouded sky."""

import numpy as np

from t2v.evaluation import skies
from t2v.evaluation.pixels import RGB, FloatArray
from t2v.evaluation.places import read_place
from t2v.evaluation.reading import UNKNOWN, Reading, Seen

CLOUDS: dict[str, RGB] = {"night": (0.10, 0.11, 0.17), "dusk": (0.34, 0.24, 0.30), "day": (0.42, 0.54, 0.78)}
CLOUDED = 0.6  # how far clouds hide the sky
FARTHEST_FALL = 0.16  # share of the frame between two frames
MIN_FALL = 0.01
MIN_TOGETHER = 0.4  # correlation of what falls with itself one frame later, where it has fallen to
STREAKED = 0.17  # how far edges lie in one direction: of round flakes 0, of streaks nearly 1
MIN_COVER = 0.004  # share of the frame that is drops
EVEN = 0.45  # of the fullest frame's drops the emptiest has at least this share: it falls all the time
HEAVY = 0.043  # share of the frame that is drops; a light fall has under 0.036, a heavy one over 0.057
BEHIND = 15  # percentile over time
BLOWN = 0.25  # sideways for each unit down; the wind of the worlds makes it 0.45 or more


def read_weather(clip: FloatArray) -> Reading | None:
    """Read a clip of rain or snow; None where nothing falls before clouds. clip: f h w 3 in [0, 1]."""
    behind = np.median(clip, axis=0)
    # Drops are light: the darkest of each pixel, but for noise, is what stands behind them however many there are.
    still = np.percentile(clip, BEHIND, axis=0)
    sky = skies.read_sky(clip, np.median(still, axis=1), skies=_clouded())
    if sky == UNKNOWN:
        return None
    # Share of each pixel that something white hides.
    drops = np.clip((clip - behind).mean(axis=-1) / (1 - behind.mean(axis=-1) + 0.05), 0, 1)
    covers = drops.mean(axis=(1, 2))
    cover = float(covers.mean())
    down, across, together = _fall(drops)
    if cover < MIN_COVER or covers.min() < EVEN * covers.max() or together < MIN_TOGETHER or down < MIN_FALL:
        return None
    kind = "rain" if _streaks(drops) > STREAKED else "snow"
    slant = across / down
    wind = "none" if abs(slant) < BLOWN else "right" if slant > 0 else "left"
    amount = "heavy" if cover > HEAVY else "light"
    others = {"amount": amount, "wind": wind, "place": read_place(still, sky)}
    return Reading("weather", 1, sky, (Seen(kind, "white", "small", "down"),), others)


def _clouded() -> dict[str, tuple[RGB, RGB]]:
    def mixed(sky: RGB, clouds: RGB) -> RGB:
        red, green, blue = (a + (b - a) * CLOUDED for a, b in zip(sky, clouds, strict=True))
        return red, green, blue

    return {name: (mixed(top, CLOUDS[name]), mixed(foot, CLOUDS[name])) for name, (top, foot) in skies.SKIES.items()}


def _fall(drops: FloatArray) -> tuple[float, float, float]:
    """How far all falls between two frames, down and across in shares of the frame, and how well it agrees (0 to 1)."""
    size = drops.shape[1]
    waves = np.fft.rfft2(drops - drops.mean(axis=(1, 2), keepdims=True))
    together = np.fft.irfft2((np.conj(waves[:-1]) * waves[1:]).sum(axis=0), s=drops.shape[1:])
    alone = float(np.fft.irfft2((np.abs(waves[:-1]) ** 2).sum(axis=0), s=drops.shape[1:])[0, 0]) + 1e-9
    reach = round(FARTHEST_FALL * size)
    near = np.roll(together, (1, reach), axis=(0, 1))[: reach + 2, : 2 * reach + 1] / alone
    row, column = np.unravel_index(int(near.argmax()), near.shape)
    # The middle of the peak lies between pixels.
    rows = slice(max(0, row - 1), row + 2)
    columns = slice(max(0, column - 1), column + 2)
    if near.max() <= 0:
        return 0.0, 0.0, 0.0
    weight = np.clip(near[rows, columns] - 0.5 * near.max(), 0, None)
    y, x = np.mgrid[: near.shape[0], : near.shape[1]]
    down, across = ((weight * grid[rows, columns]).sum() / weight.sum() for grid in (y - 1, x - reach))
    return float(down / size), float(across / size), float(near.max())


def _streaks(drops: FloatArray) -> float:
    """How far the edges of the drops lie in one direction: (l1 - l2) / (l1 + l2) of the structure tensor."""
    down, across = np.gradient(drops, axis=(1, 2))
    yy, xx, xy = (down**2).sum(), (across**2).sum(), (down * across).sum()
    return float(np.hypot(xx - yy, 2 * xy) / (xx + yy + 1e-9))
