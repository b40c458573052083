"""Wordings for the family `shapes`."""

import numpy as np

from t2v.data.worlds.grammar import chance, participle, pick, plural, singular, with_article, wordings, words_in
from t2v.data.worlds.shapes import Scene, Subject

SHAPE_WORDS = {
    "circle": ("circle", "circle", "disc", "ball"),
    "square": ("square", "square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
}
COLOUR_WORDS = {
    "red": ("red",),
    "green": ("green",),
    "blue": ("blue",),
    "yellow": ("yellow",),
    "orange": ("orange",),
    "purple": ("purple", "purple", "violet"),
    "white": ("white",),
    "black": ("black",),
}
SIZE_WORDS = {"small": ("small", "little"), "large": ("large", "big")}
# Directions are always the plain words left and right: by these a reader knows which clips must not be mirrored.
MOTION_WORDS = {
    "left": ("move left", "move to the left", "drift to the left", "slide left", "glide left", "travel to the left"),
    "right": (
        "move right",
        "move to the right",
        "drift to the right",
        "slide right",
        "glide right",
        "travel to the right",
    ),
    "up": ("move up", "rise", "float up", "climb", "go up", "travel upwards"),
    "down": ("move down", "fall", "sink", "drop", "go down", "travel downwards"),
    "grow": ("grow", "get bigger", "grow larger", "expand"),
    "shrink": ("shrink", "get smaller", "shrink away"),
    "spin": ("spin", "rotate", "spin around", "turn round and round"),
    "bounce": ("bounce", "bounce up and down", "hop up and down"),
    "blink": ("blink", "flash", "blink on and off", "flash on and off"),
}
ON_GROUND = ("on a {} background", "on {}", "against a {} background", "on a {} ground")
GROUND_WORDS = {
    "black": ("black",),
    "white": ("white",),
    "grey": ("grey", "gray"),
    "dark blue": ("dark blue", "navy"),
    "cream": ("cream", "beige"),
}
TWO_DOING = ("{} and {}", "{}, {}")
TWO_DO = ("{} while {}", "{} and {}", "{}, {}")
TWINS = ("two {}", "a pair of {}")
OTHER_WORDS = ("a an and both", "shape", "shapes", TWO_DO, TWINS, ON_GROUND)


def captions(scene: Scene, rng: np.random.Generator) -> tuple[str, ...]:
    """One to three true captions of a scene, in different words."""
    return wordings(rng, lambda: _sentence(scene, rng) + _ground(scene, rng))


def words() -> set[str]:
    """Every word that a caption of this family can hold."""
    forms = [form(motion) for motions in MOTION_WORDS.values() for motion in motions for form in (singular, participle)]
    plurals = [plural(noun) for nouns in SHAPE_WORDS.values() for noun in nouns]
    tables = (SHAPE_WORDS, COLOUR_WORDS, SIZE_WORDS, MOTION_WORDS, GROUND_WORDS, OTHER_WORDS)
    return words_in(*tables, forms, plurals)


def _sentence(scene: Scene, rng: np.random.Generator) -> str:
    first, motion = scene.subjects[0], scene.subjects[0].motion
    if len(scene.subjects) == 1:
        return _one(first, rng)
    if scene.twins:
        who = pick(rng, TWINS).format(_noun(first, rng, many=True))
        return who if chance(rng, 0.06) else f"{who} {_many_do(motion, rng)}"
    # Left or upper first is no rule: who is named first says nothing of the picture.
    one, two = scene.subjects if chance(rng, 0.5) else scene.subjects[::-1]
    names = with_article(_noun(one, rng, sure=True)), with_article(_noun(two, rng, sure=True))
    if one.motion == two.motion:
        return f"{names[0]} and {names[1]} {pick(rng, ('', 'both '))}{_many_do(motion, rng)}"
    form, joins = pick(rng, ((singular, TWO_DO), (participle, TWO_DOING)))
    doing = [f"{name} {form(_motion(s, rng))}" for name, s in zip(names, (one, two), strict=True)]
    return pick(rng, joins).format(*doing)


def _one(subject: Subject, rng: np.random.Generator) -> str:
    noun = _noun(subject, rng)
    who = noun if chance(rng, 0.25) else with_article(noun)
    if chance(rng, 0.06):
        return who
    form = pick(rng, (singular, participle, participle))
    return f"{who} {form(_motion(subject, rng))}"


def _many_do(motion: str, rng: np.random.Generator) -> str:
    phrase = pick(rng, MOTION_WORDS[motion])
    return participle(phrase) if chance(rng, 0.6) else phrase


def _motion(subject: Subject, rng: np.random.Generator) -> str:
    return pick(rng, MOTION_WORDS[subject.motion])


def _noun(subject: Subject, rng: np.random.Generator, *, many: bool = False, sure: bool = False) -> str:
    """Size, colour and shape. sure: colour and shape are both said, so that two subjects can be told apart."""
    left_out = "nothing" if sure else pick(rng, ("nothing",) * 10 + ("colour", "shape"))
    parts = []
    if subject.size in SIZE_WORDS and chance(rng, 0.45):
        parts.append(pick(rng, SIZE_WORDS[subject.size]))
    if left_out != "colour":
        parts.append(pick(rng, COLOUR_WORDS[subject.colour]))
    noun = "shape" if left_out == "shape" else pick(rng, SHAPE_WORDS[subject.shape])
    return " ".join([*parts, plural(noun) if many else noun])


def _ground(scene: Scene, rng: np.random.Generator) -> str:
    if not chance(rng, 0.25):
        return ""
    return " " + pick(rng, ON_GROUND).format(pick(rng, GROUND_WORDS[scene.ground]))
