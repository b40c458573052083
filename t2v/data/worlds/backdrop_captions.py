"""Wordings for skies, places and grounds, which several families share. Tables named UNSEEN are never trained on."""

from t2v.data.worlds.grammar import Voice, words_in

WHEN = {
    "night": (
        "at night",
        "at night",
        "by night",
        "in the dark",
        "in the night",
        "under a night sky",
        "on a dark night",
        "in the middle of the night",
    ),
    "dusk": (
        "at dusk",
        "at dusk",
        "in the evening",
        "at twilight",
        "under an evening sky",
        "in the dusk",
        "at the end of the day",
    ),
    "day": ("by day", "in the daytime", "during the day", "in daylight", "under a bright sky", "in the light of day"),
}
UNSEEN_WHEN = {"night": ("after dark",), "dusk": ("as night falls",), "day": ("in broad daylight",)}
WHERE = {
    "city": (
        "over the city",
        "above the city",
        "over a city skyline",
        "above the rooftops",
        "over the roofs of the city",
    ),
    "hills": ("over the hills", "above the hills", "over a line of hills", "over hills", "above some hills"),
    "water": ("over the water", "above the sea", "over the sea", "over a lake", "above the water"),
}
UNSEEN_WHERE = {"city": ("over the town",), "hills": ("over the hilltops",), "water": ("over the bay",)}
ON_GROUND = ("on a {} background", "on {}", "against a {} background", "on a {} ground")
UNSEEN_ON_GROUND = ("in front of a {} backdrop",)


def when(sky: str, voice: Voice) -> str:
    """The time of day."""
    return voice.pick(WHEN[sky], UNSEEN_WHEN[sky], says="backdrop")


def where(place: str, voice: Voice) -> str:
    """What stands below; nothing of nowhere."""
    return voice.pick(WHERE[place], UNSEEN_WHERE[place], says="place") if place in WHERE else ""


def on_ground(names: tuple[str, ...], voice: Voice) -> str:
    """A plain ground by one of its names."""
    return voice.pick(ON_GROUND, UNSEEN_ON_GROUND).format(voice.pick(names, says="backdrop"))


def sky_words() -> set[str]:
    """Every word for a time of day."""
    return words_in(WHEN, UNSEEN_WHEN)


def place_words(*places: str) -> set[str]:
    """Every word for these places."""
    return words_in(*(table[place] for place in places for table in (WHERE, UNSEEN_WHERE)))


def ground_words(names: object) -> set[str]:
    """Every word for plain grounds of these names."""
    return words_in(ON_GROUND, UNSEEN_ON_GROUND, names)
