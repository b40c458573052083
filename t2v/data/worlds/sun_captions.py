"""Wordings for the family `suns`. Tables named UNSEEN are never trained on."""

from t2v.data.worlds.backdrop_captions import place_words, where
from t2v.data.worlds.grammar import Voice, joined, with_article, words_in
from t2v.data.worlds.suns import Scene

TITLES = {
    "up": ("a sunrise", "a sunrise", "sunrise", "the sunrise", "the sun at sunrise"),
    "down": ("a sunset", "a sunset", "sunset", "the sunset", "the sun at sunset"),
}
UNSEEN_TITLES = {"up": ("daybreak",), "down": ("sundown",)}
MOTIONS = {
    "up": ("rising", "rises", "coming up", "comes up", "moving up", "slowly rising"),
    "down": ("setting", "sets", "going down", "goes down", "sinking", "slowly setting"),
}
UNSEEN_MOTIONS = {"up": ("climbing into view",), "down": ("dipping out of sight",)}
COLOURS = {"yellow": ("yellow", "golden"), "orange": ("orange",), "red": ("red",)}
SIZES = {"small": ("small", "little"), "large": ("large", "big")}
UNSEEN_SIZES = {"small": ("tiny",), "large": ("huge",)}
SKY_COLOURS = {"orange": ("orange",), "pink": ("pink",), "purple": ("purple", "violet")}
IN_SKY = ("in {} sky", "against {} sky", "under {} sky", "with {} sky", "and {} sky above")
UNSEEN_IN_SKY = ("before {} sky",)
WITH_SUN = ("with {} sun", "and {} sun")


def sentence(scene: Scene, voice: Voice) -> str:
    """A true caption of a scene."""
    voice.says("number", (0, "subject"), (0, "motion"))
    adjectives = _adjectives(scene, voice)
    if voice.chance(0.35):
        who = voice.pick(TITLES[scene.motion], UNSEEN_TITLES[scene.motion])
        after = voice.pick(WITH_SUN).format(with_article(adjectives)) if adjectives else ""
    else:
        sun = f"{with_article(adjectives)} sun" if adjectives else "the sun"
        who, after = f"{sun} {voice.pick(MOTIONS[scene.motion], UNSEEN_MOTIONS[scene.motion])}", ""
    place = where(scene.backdrop.place, voice) if voice.chance(0.6) else ""
    return joined(who, place, after, _sky(scene, voice) if voice.chance(0.5) else "")


def words() -> set[str]:
    """Every word that a caption of this family can hold."""
    held_out = (UNSEEN_TITLES, UNSEEN_MOTIONS, UNSEEN_SIZES, UNSEEN_IN_SKY)
    tables = (TITLES, MOTIONS, COLOURS, SIZES, SKY_COLOURS, IN_SKY, WITH_SUN, *held_out, "a an the sun")
    return words_in(*tables) | place_words("city", "hills", "water")


def _adjectives(scene: Scene, voice: Voice) -> str:
    size = voice.maybe(0.3, SIZES[scene.size], UNSEEN_SIZES[scene.size], says=(0, "size"))
    return joined(size, voice.maybe(0.65, COLOURS[scene.colour], says=(0, "colour")))


def _sky(scene: Scene, voice: Voice) -> str:
    colour = with_article(voice.pick(SKY_COLOURS[scene.sky], says="backdrop"))
    return voice.pick(IN_SKY, UNSEEN_IN_SKY).format(colour)
