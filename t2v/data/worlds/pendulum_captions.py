"""Wordings for the family `pendulums`. Tables named UNSEEN are never trained on."""

from t2v.data.worlds.backdrop_captions import ground_words, on_ground
from t2v.data.worlds.grammar import Voice, joined, with_article, words_in
from t2v.data.worlds.pendulums import Scene
from t2v.data.worlds.shape_captions import COLOUR_WORDS, GROUND_WORDS

SIZES = {"small": ("small", "little"), "large": ("large", "big")}
UNSEEN_SIZES = {"small": ("tiny",), "large": ("huge",)}
WITH_WEIGHT = ("a pendulum with {} weight", "a pendulum with {} bob", "a pendulum with {} ball")
UNSEEN_WITH_WEIGHT = ("{} weight on a pendulum rod",)
MOTIONS = (
    "swinging",
    "swings",
    "swinging back and forth",
    "swings back and forth",
    "swinging from side to side",
    "swings to and fro",
    "swaying",
    "swinging this side and that",
)
UNSEEN_MOTIONS = ("rocking this way and that",)
SPEEDS = {
    "slow": ("slowly", "slowly", "at a slow pace", "very slowly"),
    "fast": ("fast", "quickly", "rapidly", "at a fast pace"),
}
UNSEEN_SPEEDS = {"slow": ("in no hurry",), "fast": ("at high speed",)}


def sentence(scene: Scene, voice: Voice) -> str:
    """A true caption of a scene."""
    voice.says("number", (0, "subject"), (0, "motion"))
    size = voice.maybe(0.35, SIZES[scene.size], UNSEEN_SIZES[scene.size], says=(0, "size"))
    colour = voice.maybe(0.85, COLOUR_WORDS[scene.colour], says=(0, "colour"))
    adjectives = joined(size, colour)
    if adjectives and voice.chance(0.25):
        who = voice.pick(WITH_WEIGHT, UNSEEN_WITH_WEIGHT).format(with_article(adjectives))
    else:
        who = with_article(joined(adjectives, "pendulum"))
    speed = voice.maybe(0.55, SPEEDS[scene.speed], UNSEEN_SPEEDS[scene.speed], says=(0, "speed"))
    ground = on_ground(GROUND_WORDS[scene.ground], voice) if voice.chance(0.35) else ""
    return joined(who, voice.pick(MOTIONS, UNSEEN_MOTIONS), speed, ground)


def words() -> set[str]:
    """Every word that a caption of this family can hold."""
    held_out = (UNSEEN_SIZES, UNSEEN_WITH_WEIGHT, UNSEEN_MOTIONS, UNSEEN_SPEEDS)
    tables = (COLOUR_WORDS, SIZES, WITH_WEIGHT, MOTIONS, SPEEDS, *held_out, "an")
    return words_in(*tables) | ground_words(GROUND_WORDS)
