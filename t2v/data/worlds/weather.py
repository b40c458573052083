"""The family `weather`: rain or snow, light or heavy, straight or blown aside, by night, at dusk or by day."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2v.data.worlds.canvas import PIXEL_BLUR, RGB, Clock, FloatArray, over, splat, to_uint8
from t2v.data.worlds.grammar import pick
from t2v.data.worlds.skies import PLACES, SKIES, Backdrop, paint_backdrop, plan_backdrop, reflect

KINDS = ("rain", "snow")
AMOUNTS = ("light", "heavy")
WINDS = ("none", "left", "right")
PLACE_PROBS = {"nowhere": 0.4, "city": 0.25, "hills": 0.25, "water": 0.1}

COUNTS = {
    ("rain", "light"): (22, 30),
    ("rain", "heavy"): (90, 115),
    ("snow", "light"): (20, 28),
    ("snow", "heavy"): (85, 110),
}
SPEEDS = {"rain": (0.95, 1.1), "snow": (0.32, 0.40)}  # heights of the frame in a second
FASTEST = {"rain": 0.14, "snow": 0.08}  # and between two frames, or the eye pairs each drop with the next one
DRIFTS = {"rain": (0.45, 0.6), "snow": (0.6, 0.9)}  # sideways, as shares of the speed, where the wind blows
RAIN: RGB = (0.86, 0.92, 1.0)
SNOW: RGB = (1.0, 1.0, 1.0)
STREAK, STREAK_POINTS, STREAK_WIDTH = 0.10, 7, 0.0075
FLAKE = 0.0135
CLOUDS: dict[str, RGB] = {"night": (0.10, 0.11, 0.17), "dusk": (0.34, 0.24, 0.30), "day": (0.42, 0.54, 0.78)}
ROOM = 0.15  # how far outside the frame drops come in and go out


@dataclass(frozen=True)
class Scene:
    """What falls and what stands behind it. Lengths in units of the frame."""

    backdrop: Backdrop
    kind: str
    amount: str
    wind: str
    speed: float  # a second
    slant: float  # sideways for each unit down
    places: FloatArray  # rows (x, y), where each drop starts
    depths: FloatArray  # one a drop: 1 near, less far away, where drops are smaller, slower and fainter
    sway: FloatArray  # one phase a flake


def plan(rng: np.random.Generator) -> Scene:
    """Choose a scene; nothing in it depends on size, frames or rate."""
    kind, amount, wind, sky = pick(rng, KINDS), pick(rng, AMOUNTS), pick(rng, WINDS), pick(rng, SKIES)
    place = str(rng.choice(PLACES, p=[PLACE_PROBS[name] for name in PLACES]))
    count = int(rng.integers(*COUNTS[kind, amount]))
    sideways = {"none": 0.0, "left": -1.0, "right": 1.0}[wind]
    # Stars would look like snow that stands still, and where it rains there are none.
    backdrop = replace(plan_backdrop(rng, sky, place), stars=np.zeros((0, 3), np.float32))
    return Scene(
        backdrop=backdrop,
        kind=kind,
        amount=amount,
        wind=wind,
        speed=rng.uniform(*SPEEDS[kind]),
        slant=sideways * rng.uniform(*DRIFTS[kind]),
        places=_spread(rng, count),
        depths=rng.uniform(0.75, 1.0, count).astype(np.float32),
        sway=rng.uniform(0, 2 * np.pi, count).astype(np.float32),
    )


def facts(scene: Scene) -> dict[str, Any]:
    """What is true of the clip, for tests and for a judge."""
    subject = {"subject": scene.kind, "colour": "white", "size": "small", "motion": "down"}
    return {
        "number": 1,
        "backdrop": scene.backdrop.sky,
        "place": scene.backdrop.place,
        "amount": scene.amount,
        "wind": scene.wind,
        "subjects": (subject,),
    }


def draw(scene: Scene, clock: Clock, size: int) -> NDArray[np.uint8]:
    """Shape: f h w 3."""
    sky, ground = paint_backdrop(scene.backdrop, size)
    sky = over(sky, CLOUDS[scene.backdrop.sky], np.full((size, size), 0.6, np.float32))
    if scene.backdrop.place == "water":
        sky = reflect(sky, scene.backdrop)
    behind = over(sky, ground.colour, ground.alpha)
    frames = []
    for frame in range(clock.num_frames):
        fallen = clock.cycles(frame, rate=scene.speed, least=0.25, most_per_frame=FASTEST[scene.kind])
        frames.append(
            to_uint8(_streaked(behind, scene, fallen) if scene.kind == "rain" else _flaked(behind, scene, fallen))
        )
    return np.stack(frames)


def _spread(rng: np.random.Generator, count: int) -> FloatArray:
    """Places that leave no great gaps: one in each cell of a grid over the frame and the room around it."""
    columns = int(np.ceil(np.sqrt(count)))
    cells = rng.permutation(columns * columns)[:count]
    corners = np.stack([cells % columns, cells // columns], axis=1)
    places = (corners + rng.random((count, 2))) / columns
    return places.astype(np.float32)


def _middles(scene: Scene, fallen: float) -> tuple[FloatArray, FloatArray]:
    """Where the drops are after falling so far; what leaves the frame comes in again on the other side."""
    down = fallen * scene.depths
    around = 1 + 2 * ROOM
    x = (scene.places[:, 0] * around + scene.slant * down) % around - ROOM
    y = (scene.places[:, 1] * around + down) % around - ROOM
    return x, y


def _streaked(behind: FloatArray, scene: Scene, fallen: float) -> FloatArray:
    x, y = _middles(scene, fallen)
    along = np.linspace(-0.5, 0.5, STREAK_POINTS, dtype=np.float32)[:, None] * STREAK * scene.depths
    weight = np.broadcast_to(scene.depths**2, along.shape)
    light = _dots(x + scene.slant * along, y + along, weight, STREAK_WIDTH, len(behind))
    return over(behind, RAIN, 0.8 * (1 - np.exp(-1.6 * light)))


def _flaked(behind: FloatArray, scene: Scene, fallen: float) -> FloatArray:
    x, y = _middles(scene, fallen)
    x = x + 0.014 * np.sin(scene.sway + 14 * fallen)
    return over(behind, SNOW, 1 - np.exp(-3.1 * _dots(x, y, scene.depths**2, FLAKE, len(behind))))


def _dots(x: FloatArray, y: FloatArray, weight: FloatArray, sigma: float, size: int) -> FloatArray:
    """Spots of the same sum at every size: a thin streak would look thick in small clips, and a snowfall denser."""
    return splat(x, y, weight * sigma / float(np.hypot(sigma, PIXEL_BLUR / size)), sigma=sigma, size=size)
