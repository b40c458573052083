"""Wordings for the family `weather`. Tables named UNSEEN are never trained on."""

from t2v.data.worlds.backdrop_captions import place_words, sky_words, when, where
from t2v.data.worlds.grammar import Voice, joined, words_in
from t2v.data.worlds.weather import Scene

PLAIN = {
    "rain": ("rain", "rain", "raindrops", "rainfall", "drops of rain"),
    "snow": ("snow", "snow", "snowflakes", "snowfall", "flakes of snow"),
}
UNSEEN_PLAIN = {"rain": ("showers",), "snow": ("flurries",)}
NOUNS = {
    ("rain", "light"): ("light rain", "a drizzle", "a light shower", "gentle rain", "a few raindrops"),
    ("rain", "heavy"): ("heavy rain", "a downpour", "pouring rain", "a rainstorm", "hard rain"),
    ("snow", "light"): ("light snow", "gentle snow", "a few snowflakes", "a light snowfall", "soft snow"),
    ("snow", "heavy"): ("heavy snow", "thick snow", "a snowstorm", "a heavy snowfall", "dense snow"),
}
UNSEEN_NOUNS = {
    ("rain", "light"): ("a sprinkle of rain",),
    ("rain", "heavy"): ("torrents of rain",),
    ("snow", "light"): ("scattered snowflakes",),
    ("snow", "heavy"): ("masses of snow",),
}
IT = {"rain": ("it rains", "it is raining"), "snow": ("it snows", "it is snowing")}
HOW = {"light": ("lightly", "a little", "gently", "softly"), "heavy": ("heavily", "hard", "a lot", "very hard")}
UNSEEN_HOW = {"light": ("ever so slightly",), "heavy": ("without mercy",)}
FALLING = ("falling", "coming down", "falling from the sky", "falling down", "coming from above")
UNSEEN_FALLING = ("dropping out of the clouds",)
STRAIGHT = ("falling straight down", "coming straight down", "falling with no wind", "falling in straight lines")
UNSEEN_STRAIGHT = ("dropping in still air",)
BLOWN = {
    side: tuple(f"{verb} to the {side}" for verb in ("blown", "slanting", "drifting", "blowing", "falling"))
    for side in ("left", "right")
}
UNSEEN_BLOWN = {side: (f"swept off to the {side}",) for side in ("left", "right")}


def sentence(scene: Scene, voice: Voice) -> str:
    """A true caption of a scene."""
    voice.says("number", (0, "subject"))
    what = _it(scene, voice) if voice.chance(0.2) else joined(_noun(scene, voice), _falling(scene, voice))
    place = where(scene.backdrop.place, voice) if voice.chance(0.3) else ""
    time = when(scene.backdrop.sky, voice) if voice.chance(0.7) else ""
    return joined(what, place, time)


def words() -> set[str]:
    """Every word that a caption of this family can hold."""
    held_out = (UNSEEN_PLAIN, UNSEEN_NOUNS, UNSEEN_HOW, UNSEEN_FALLING, UNSEEN_STRAIGHT, UNSEEN_BLOWN)
    tables = (PLAIN, NOUNS, IT, HOW, FALLING, STRAIGHT, BLOWN, *held_out)
    return words_in(*tables) | sky_words() | place_words("city", "hills", "water")


def _it(scene: Scene, voice: Voice) -> str:
    how = voice.maybe(0.6, HOW[scene.amount], UNSEEN_HOW[scene.amount], says="amount")
    return joined(voice.pick(IT[scene.kind]), how)


def _noun(scene: Scene, voice: Voice) -> str:
    if voice.chance(0.35):
        return voice.pick(PLAIN[scene.kind], UNSEEN_PLAIN[scene.kind])
    meaning = scene.kind, scene.amount
    return voice.pick(NOUNS[meaning], UNSEEN_NOUNS[meaning], says="amount")


def _falling(scene: Scene, voice: Voice) -> str:
    if voice.chance(0.25):
        return ""
    voice.says((0, "motion"))
    if voice.chance(0.4):
        return voice.pick(FALLING, UNSEEN_FALLING)
    if scene.wind == "none":
        return voice.pick(STRAIGHT, UNSEEN_STRAIGHT, says="wind")
    return voice.pick(BLOWN[scene.wind], UNSEEN_BLOWN[scene.wind], says="wind")
