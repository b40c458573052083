"""Wordings for the family `shapes`."""

from t2v.data.worlds.backdrop_captions import ground_words, on_ground
from t2v.data.worlds.grammar import Voice, participle, plural, singular, with_article, words_in
from t2v.data.worlds.shapes import Scene

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
OTHER_WORDS = ("a an and both", "shape", "shapes", TWO_DO, TWINS)


# Held-out wordings: never in a caption to train on. Colours and nouns have none, the verbs, sizes and joints have.
UNSEEN_SIZE_WORDS = {"small": ("tiny",), "large": ("huge",)}
UNSEEN_MOTION_WORDS = {
    "left": ("head left",),
    "right": ("head right",),
    "up": ("ascend",),
    "down": ("descend",),
    "grow": ("swell",),
    "shrink": ("dwindle",),
    "spin": ("whirl around",),
    "bounce": ("jump up and down",),
    "blink": ("switch on and off",),
}
UNSEEN_TWO_DOING = ("{} beside {}",)
UNSEEN_TWO_DO = ("{} as {}",)
UNSEEN_TWINS = ("a couple of {}",)


def sentence(scene: Scene, voice: Voice) -> str:
    """A true caption of a scene."""
    return _sentence(scene, voice) + _ground(scene, voice)


def words() -> set[str]:
    """Every word that a caption of this family can hold."""
    motions = [phrase for table in (MOTION_WORDS, UNSEEN_MOTION_WORDS) for some in table.values() for phrase in some]
    forms = [form(phrase) for phrase in motions for form in (singular, participle)]
    plurals = [plural(noun) for nouns in SHAPE_WORDS.values() for noun in nouns]
    held_out = (UNSEEN_SIZE_WORDS, UNSEEN_TWO_DOING, UNSEEN_TWO_DO, UNSEEN_TWINS)
    tables = (SHAPE_WORDS, COLOUR_WORDS, SIZE_WORDS, motions, OTHER_WORDS, *held_out, forms, plurals)
    return words_in(*tables) | ground_words(GROUND_WORDS)


def _sentence(scene: Scene, voice: Voice) -> str:
    voice.says("number")
    if len(scene.subjects) == 1:
        return _one(scene, voice)
    if scene.twins:
        who = voice.pick(TWINS, UNSEEN_TWINS).format(_noun(scene, (0, 1), voice, many=True))
        return who if voice.chance(0.06) else f"{who} {_many_do(scene, voice)}"
    # Left or upper first is no rule: who is named first says nothing of the picture.
    order = (0, 1) if voice.chance(0.5) else (1, 0)
    one, two = (scene.subjects[number] for number in order)
    names = [with_article(_noun(scene, (number,), voice, sure=True)) for number in order]
    if one.motion == two.motion:
        return f"{names[0]} and {names[1]} {voice.pick(('', 'both '))}{_many_do(scene, voice)}"
    form, joins, unseen_joins = voice.pick(
        ((singular, TWO_DO, UNSEEN_TWO_DO), (participle, TWO_DOING, UNSEEN_TWO_DOING))
    )
    doing = [f"{name} {form(_motion(scene, number, voice))}" for name, number in zip(names, order, strict=True)]
    return voice.pick(joins, unseen_joins).format(*doing)


def _one(scene: Scene, voice: Voice) -> str:
    noun = _noun(scene, (0,), voice)
    who = noun if voice.chance(0.25) else with_article(noun)
    if voice.chance(0.06):
        return who
    form = voice.pick((singular, participle, participle))
    return f"{who} {form(_motion(scene, 0, voice))}"


def _many_do(scene: Scene, voice: Voice) -> str:
    """What both subjects do."""
    voice.says((1, "motion"))
    phrase = _motion(scene, 0, voice)
    return participle(phrase) if voice.chance(0.6) else phrase


def _motion(scene: Scene, number: int, voice: Voice) -> str:
    motion = scene.subjects[number].motion
    return voice.pick(MOTION_WORDS[motion], UNSEEN_MOTION_WORDS[motion], says=(number, "motion"))


def _noun(scene: Scene, numbers: tuple[int, ...], voice: Voice, *, many: bool = False, sure: bool = False) -> str:
    """Size, colour and shape of one subject, or of two that are the same.

    sure: colour and shape are both said, so that two subjects can be told apart
    """
    subject = scene.subjects[numbers[0]]
    left_out = "nothing" if sure else voice.pick(("nothing",) * 10 + ("colour", "shape"))
    said, parts = [], []
    if subject.size in SIZE_WORDS and voice.chance(0.45):
        parts.append(voice.pick(SIZE_WORDS[subject.size], UNSEEN_SIZE_WORDS[subject.size]))
        said.append("size")
    if left_out != "colour":
        parts.append(voice.pick(COLOUR_WORDS[subject.colour]))
        said.append("colour")
    if left_out == "shape":
        noun = "shape"
    else:
        noun = voice.pick(SHAPE_WORDS[subject.shape])
        said.append("subject")
    voice.says(*((number, key) for number in numbers for key in said))
    return " ".join([*parts, plural(noun) if many else noun])


def _ground(scene: Scene, voice: Voice) -> str:
    return f" {on_ground(GROUND_WORDS[scene.ground], voice)}" if voice.chance(0.25) else ""
