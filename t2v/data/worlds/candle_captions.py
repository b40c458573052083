"""Wordings for the family `candles`. Tables named UNSEEN are never trained on."""

from t2v.data.worlds.backdrop_captions import ground_words, on_ground
from t2v.data.worlds.candles import Scene
from t2v.data.worlds.grammar import Voice, joined, plural, with_article, words_in

COLOURS = {
    "white": ("white",),
    "red": ("red",),
    "green": ("green",),
    "blue": ("blue",),
    "purple": ("purple", "purple", "violet"),
    "yellow": ("yellow",),
}
SIZES = {"small": ("short", "small", "low", "little"), "large": ("tall", "large", "high", "big")}
UNSEEN_SIZES = {"small": ("stubby",), "large": ("long",)}
NUMBERS = {
    1: ("one", "a single", "just one"),
    2: ("two", "two", "a pair of", "a set of two"),
    3: ("three", "three", "a group of three", "a row of three"),
}
UNSEEN_NUMBERS = {1: ("a lone",), 2: ("a couple of",), 3: ("a trio of",)}
# Said of one candle or of several alike; then what one does, and what several do.
MOTIONS = {
    "flicker": ("burning", "flickering", "burning brightly", "with a flickering light", "shining"),
    "light up": ("being lit", "lighting up", "starting to burn", "beginning to burn"),
    "go out": ("going out", "being blown out", "burning and then going out", "dying down and going out"),
}
UNSEEN_MOTIONS = {
    "flicker": ("giving off a wavering light",),
    "light up": ("catching fire",),
    "go out": ("being snuffed out",),
}
FINITE = {
    "flicker": (("burns", "burn"), ("flickers", "flicker")),
    "light up": (("lights up", "light up"), ("starts to burn", "start to burn")),
    "go out": (("goes out", "go out"), ("stops burning", "stop burning")),
}
GROUNDS = {"black": ("black",), "dark blue": ("dark blue", "navy"), "brown": ("brown",)}


def sentence(scene: Scene, voice: Voice) -> str:
    """A true caption of a scene."""
    count = len(scene.candles)
    voice.says("number", *((number, "subject") for number in range(count)))
    who = _who(scene, count, voice)
    ground = on_ground(GROUNDS[scene.ground], voice) if voice.chance(0.35) else ""
    return joined(who, _motion(scene, count, voice) if voice.chance(0.9) else "", ground)


def words() -> set[str]:
    """Every word that a caption of this family can hold."""
    held_out = (UNSEEN_SIZES, UNSEEN_NUMBERS, UNSEEN_MOTIONS)
    tables = (COLOURS, SIZES, NUMBERS, MOTIONS, FINITE, *held_out, "a candle candles")
    return words_in(*tables) | ground_words(GROUNDS)


def _who(scene: Scene, count: int, voice: Voice) -> str:
    size = colour = ""
    if voice.chance(0.4):
        size = voice.pick(SIZES[scene.size], UNSEEN_SIZES[scene.size])
        voice.says(*((number, "size") for number in range(count)))
    if voice.chance(0.8):
        colour = voice.pick(COLOURS[scene.colour])
        voice.says(*((number, "colour") for number in range(count)))
    noun = joined(size, colour, plural("candle") if count > 1 else "candle")
    if count == 1 and voice.chance(0.6):
        return with_article(noun)
    return f"{voice.pick(NUMBERS[count], UNSEEN_NUMBERS[count])} {noun}"


def _motion(scene: Scene, count: int, voice: Voice) -> str:
    voice.says(*((number, "motion") for number in range(count)))
    if voice.chance(0.35):
        return voice.pick(FINITE[scene.motion])[min(count, 2) - 1]
    return voice.pick(MOTIONS[scene.motion], UNSEEN_MOTIONS[scene.motion])
