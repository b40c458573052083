"""Wordings for the family `rockets`. Tables named UNSEEN are never trained on."""

from t2v.data.worlds.backdrop_captions import place_words, sky_words, when, where
from t2v.data.worlds.grammar import Voice, joined, with_article, words_in
from t2v.data.worlds.rockets import Scene
from t2v.data.worlds.shape_captions import COLOUR_WORDS

COLOURS = {name: words for name, words in COLOUR_WORDS.items() if name != "black"}
SIZES = {"small": ("small", "little"), "large": ("large", "big")}
UNSEEN_SIZES = {"small": ("tiny",), "large": ("huge",)}
NOUNS = ("rocket", "rocket", "rocket", "space rocket")
MOTIONS = (
    "taking off",
    "takes off",
    "lifting off",
    "lifts off",
    "blasting off",
    "blasts off",
    "launching",
    "flying up",
    "being launched",
    "rising into the sky",
    "flies up",
)
UNSEEN_MOTIONS = ("soaring into the air", "shoots upwards")
LAUNCH_OF = ("the launch of {}", "the take-off of {}", "a launch of {}")
UNSEEN_LAUNCH_OF = ("the departure of {}",)


def sentence(scene: Scene, voice: Voice) -> str:
    """A true caption of a scene."""
    voice.says("number", (0, "subject"), (0, "motion"))
    size = voice.maybe(0.35, SIZES[scene.size], UNSEEN_SIZES[scene.size], says=(0, "size"))
    colour = voice.maybe(0.8, COLOURS[scene.colour], says=(0, "colour"))
    rocket = with_article(joined(size, colour, voice.pick(NOUNS)))
    if voice.chance(0.1):
        what = voice.pick(LAUNCH_OF, UNSEEN_LAUNCH_OF).format(rocket)
    else:
        what = f"{rocket} {voice.pick(MOTIONS, UNSEEN_MOTIONS)}"
    place = where(scene.backdrop.place, voice) if voice.chance(0.4) else ""
    return joined(what, place, when(scene.backdrop.sky, voice) if voice.chance(0.6) else "")


def words() -> set[str]:
    """Every word that a caption of this family can hold."""
    held_out = (UNSEEN_SIZES, UNSEEN_MOTIONS, UNSEEN_LAUNCH_OF)
    tables = (COLOURS, SIZES, NOUNS, MOTIONS, LAUNCH_OF, *held_out, "a an")
    return words_in(*tables) | sky_words() | place_words("city", "hills")
