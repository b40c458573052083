"""Wordings for the family `waves`. Tables named UNSEEN are never trained on."""

from t2v.data.worlds.backdrop_captions import sky_words, when
from t2v.data.worlds.grammar import Voice, joined, with_article, words_in
from t2v.data.worlds.waves import Scene

COLOURS = {"blue": ("blue",), "green": ("green",), "grey": ("grey", "gray")}
SIZES = {"small": ("small", "gentle", "low", "little", "calm"), "large": ("large", "big", "high", "tall", "great")}
UNSEEN_SIZES = {"small": ("tiny",), "large": ("towering",)}
MOTIONS = {
    side: tuple(f"{how} {side}" for how in ("rolling to the", "rolling", "moving to the", "moving", "running to the"))
    for side in ("left", "right")
}
UNSEEN_MOTIONS = {side: (f"heading for the {side}",) for side in ("left", "right")}
FINITE = {side: (f"roll to the {side}", f"move {side}", f"move to the {side}") for side in ("left", "right")}
SEAS = ("sea", "sea", "ocean")
SEA_WITH = ("{} with {}", "{} and {}", "{} that has {}")
UNSEEN_SEA_WITH = ("{} full of {}",)


def sentence(scene: Scene, voice: Voice) -> str:
    """A true caption of a scene."""
    voice.says("number", (0, "subject"))
    size = voice.maybe(0.6, SIZES[scene.size], UNSEEN_SIZES[scene.size], says=(0, "size"))
    colour = voice.maybe(0.75, COLOURS[scene.colour], says=(0, "colour"))
    motion = voice.maybe(0.85, MOTIONS[scene.motion], UNSEEN_MOTIONS[scene.motion], says=(0, "motion"))
    if voice.chance(0.25):
        sea = with_article(joined(colour, voice.pick(SEAS)))
        what = voice.pick(SEA_WITH, UNSEEN_SEA_WITH).format(sea, joined(size, "waves", motion))
    else:
        if motion in MOTIONS[scene.motion] and voice.chance(0.25):
            motion = voice.pick(FINITE[scene.motion])
        what = joined(size, colour, "waves", motion)
    return joined(what, when(scene.backdrop.sky, voice) if voice.chance(0.6) else "")


def words() -> set[str]:
    """Every word that a caption of this family can hold."""
    held_out = (UNSEEN_SIZES, UNSEEN_MOTIONS, UNSEEN_SEA_WITH)
    return words_in(COLOURS, SIZES, MOTIONS, FINITE, SEAS, SEA_WITH, *held_out, "a an waves") | sky_words()
