"""Wordings for the family `fireworks`."""

import numpy as np

from t2v.data.worlds.fireworks import Scene
from t2v.data.worlds.grammar import chance, participle, pick, singular, wordings, words_in

COLOUR_WORDS = {
    "red": ("red",),
    "green": ("green",),
    "blue": ("blue",),
    "purple": ("purple", "purple", "violet"),
    "gold": ("golden", "gold", "yellow"),
    "white": ("white", "white", "silver"),
}
MANY_COLOURS = ("colourful", "colorful", "multicoloured", "many-coloured")
# One burst is never called fireworks, and several are never called a firework.
ONE = ("a {} firework", "one {} firework", "a single {} firework", "a burst of {} fireworks")
COUNT_WORDS = {2: ("two", "a pair of"), 3: ("three",), 4: ("four", "many", "several"), 5: ("five", "many", "several")}
VERBS_IN_SKY = ("burst", "explode", "go off", "bloom", "flash")
WHEN = {
    "night": (
        "at night",
        "at night",
        "at night",
        "at night",
        "in the night sky",
        "in the night sky",
        "in a dark sky",
        "by night",
        "in the dark",
        "against the night sky",
        "on a dark night",
    ),
    "dusk": ("at dusk", "at dusk", "in the evening sky", "at twilight", "in the dusk sky"),
    "day": ("by day", "in the daytime", "in the blue sky", "in a bright blue sky", "in daylight", "during the day"),
}
LIT_SKY = {
    "night": ("light up the night sky", "light up the night", "light up the dark sky"),
    "dusk": ("light up the evening sky", "light up the dusk"),
}
SKY_NOUN = {"night": ("a night sky", "a dark sky"), "dusk": ("an evening sky",), "day": ("a blue sky", "a daytime sky")}
SKY_WITH = ("{} with {}", "{} lit by {}")
SHOWS = ("a {} fireworks show", "a {} fireworks display", "a {} display of fireworks")
WHERE = {
    "city": ("over the city", "above the city", "over a city skyline", "above the rooftops"),
    "hills": ("over the hills", "above the hills"),
    "water": ("over the water", "above the sea", "over a lake"),
}


def captions(scene: Scene, rng: np.random.Generator) -> tuple[str, ...]:
    """One to three true captions of a scene, in different words."""
    return wordings(rng, lambda: _sentence(scene, rng))


def words() -> set[str]:
    """Every word that a caption of this family can hold."""
    phrases = (*VERBS_IN_SKY, *(phrase for table in LIT_SKY.values() for phrase in table))
    forms = [form(phrase) for phrase in phrases for form in (singular, participle)]
    tables = (COLOUR_WORDS, MANY_COLOURS, ONE, COUNT_WORDS, phrases, WHEN, SKY_NOUN, SKY_WITH, SHOWS, WHERE)
    return words_in(*tables, forms, "an and fireworks in")


def _sentence(scene: Scene, rng: np.random.Generator) -> str:
    sky, place, count = scene.backdrop.sky, scene.backdrop.place, len(scene.bursts)
    when = pick(rng, WHEN[sky])
    if count > 1 and chance(rng, 0.25):
        # The plainest of all, which leaves colours and number open.
        return f"fireworks {when}"
    who, verb = _who(scene, rng), ""
    if sky in LIT_SKY and chance(rng, 0.12):
        return f"{who} {_do(pick(rng, LIT_SKY[sky]), count, rng)}"
    if chance(rng, 0.08):
        return pick(rng, SKY_WITH).format(pick(rng, SKY_NOUN[sky]), who)
    if count > 2 and chance(rng, 0.08):
        who = _filled(pick(rng, SHOWS), _adjective(scene, rng))
    elif chance(rng, 0.45):
        verb = _do(pick(rng, VERBS_IN_SKY), count, rng)
    where = pick(rng, WHERE[place]) if place in WHERE and chance(rng, 0.5) else ""
    if where and chance(rng, 0.15):
        when = ""
    return " ".join(part for part in (who, verb, where, when) if part)


def _who(scene: Scene, rng: np.random.Generator) -> str:
    """The fireworks, with all their colours or none, and with their number or not."""
    count, adjective = len(scene.bursts), _adjective(scene, rng)
    if count == 1:
        return _filled(pick(rng, ONE), adjective)
    number = pick(rng, COUNT_WORDS[count]) if chance(rng, 0.5) else ""
    return " ".join(part for part in (number, adjective, "fireworks") if part)


def _filled(phrase: str, adjective: str) -> str:
    """The phrase with an adjective in its slot, or without one."""
    return " ".join(phrase.format(adjective).split())


def _adjective(scene: Scene, rng: np.random.Generator) -> str:
    """All the colours there are, or, leaving them open, nothing."""
    if chance(rng, 0.15):
        return ""
    colours = list(dict.fromkeys(burst.colour for burst in scene.bursts))
    if len(colours) > 2:
        return pick(rng, MANY_COLOURS)
    names = [pick(rng, COLOUR_WORDS[colour]) for colour in colours]
    return " and ".join(names if chance(rng, 0.5) else names[::-1])


def _do(phrase: str, count: int, rng: np.random.Generator) -> str:
    if chance(rng, 0.5):
        return participle(phrase)
    return singular(phrase) if count == 1 else phrase
