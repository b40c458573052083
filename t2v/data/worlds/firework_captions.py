"""Wordings for the family `fireworks`."""

from t2v.data.worlds.backdrop_captions import UNSEEN_WHERE
from t2v.data.worlds.fireworks import Scene
from t2v.data.worlds.grammar import Voice, joined, participle, singular, words_in

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
MANY = ("many", "several")  # which leave the number open
COUNT_WORDS = {2: ("two", "a pair of"), 3: ("three",), 4: ("four", *MANY), 5: ("five", *MANY)}
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


# Held-out wordings: never in a caption to train on.
UNSEEN_ONE = ("a lone {} firework",)
UNSEEN_VERBS_IN_SKY = ("sparkle",)
UNSEEN_WHEN = {
    "night": ("after dark", "in the black of night"),
    "dusk": ("as night falls",),
    "day": ("in broad daylight",),
}
UNSEEN_LIT_SKY = {"night": ("illuminate the night",), "dusk": ("illuminate the evening",)}
UNSEEN_SKY_WITH = ("{} filled with {}",)
UNSEEN_SHOWS = ("a {} fireworks spectacle",)


def sentence(scene: Scene, voice: Voice) -> str:
    """A true caption of a scene."""
    sky, place, count = scene.backdrop.sky, scene.backdrop.place, len(scene.bursts)
    voice.says(*((number, "subject") for number in range(count)))
    whens, whos = voice.aside(), voice.aside()
    when = whens.pick(WHEN[sky], UNSEEN_WHEN[sky], says="backdrop")
    if count > 1 and voice.chance(0.25):
        # The plainest of all, which leaves colours and number open.
        voice.take(whens)
        return f"fireworks {when}"
    who, verb = _who(scene, whos), ""
    if sky in LIT_SKY and voice.chance(0.12):
        voice.take(whos)
        return f"{who} {_do(voice.pick(LIT_SKY[sky], UNSEEN_LIT_SKY[sky], says='backdrop'), count, voice)}"
    if voice.chance(0.08):
        voice.take(whos)
        return voice.pick(SKY_WITH, UNSEEN_SKY_WITH).format(voice.pick(SKY_NOUN[sky], says="backdrop"), who)
    if count > 2 and voice.chance(0.08):
        whos = voice.aside()
        who = _filled(whos.pick(SHOWS, UNSEEN_SHOWS), _adjective(scene, whos))
    elif voice.chance(0.45):
        verb = _do(voice.pick(VERBS_IN_SKY, UNSEEN_VERBS_IN_SKY), count, voice)
    voice.take(whos)
    where = voice.pick(WHERE[place], UNSEEN_WHERE[place], says="place") if place in WHERE and voice.chance(0.5) else ""
    if where and voice.chance(0.15):
        return joined(who, verb, where)
    voice.take(whens)
    return joined(who, verb, where, when)


def words() -> set[str]:
    """Every word that a caption of this family can hold."""
    lit = (phrase for table in (LIT_SKY, UNSEEN_LIT_SKY) for some in table.values() for phrase in some)
    phrases = (*VERBS_IN_SKY, *UNSEEN_VERBS_IN_SKY, *lit)
    forms = [form(phrase) for phrase in phrases for form in (singular, participle)]
    tables = (COLOUR_WORDS, MANY_COLOURS, ONE, COUNT_WORDS, phrases, WHEN, SKY_NOUN, SKY_WITH, SHOWS, WHERE)
    held_out = (UNSEEN_ONE, UNSEEN_WHEN, UNSEEN_SKY_WITH, UNSEEN_SHOWS, UNSEEN_WHERE)
    return words_in(*tables, *held_out, forms, "an and fireworks in")


def _who(scene: Scene, voice: Voice) -> str:
    """The fireworks, with all their colours or none, and with their number or not."""
    count, adjective = len(scene.bursts), _adjective(scene, voice)
    if count == 1:
        return _filled(voice.pick(ONE, UNSEEN_ONE, says="number"), adjective)
    number = voice.pick(COUNT_WORDS[count]) if voice.chance(0.5) else ""
    if number not in ("", *MANY):
        voice.says("number")
    return joined(number, adjective, "fireworks")


def _filled(phrase: str, adjective: str) -> str:
    """The phrase with an adjective in its slot, or without one."""
    return " ".join(phrase.format(adjective).split())


def _adjective(scene: Scene, voice: Voice) -> str:
    """All the colours there are, or, leaving them open, nothing."""
    if voice.chance(0.15):
        return ""
    colours = list(dict.fromkeys(burst.colour for burst in scene.bursts))
    if len(colours) > 2:
        return voice.pick(MANY_COLOURS)
    voice.says(*((number, "colour") for number in range(len(scene.bursts))))
    names = [voice.pick(COLOUR_WORDS[colour]) for colour in colours]
    return " and ".join(names if voice.chance(0.5) else names[::-1])


def _do(phrase: str, count: int, voice: Voice) -> str:
    if voice.chance(0.5):
        return participle(phrase)
    return singular(phrase) if count == 1 else phrase
