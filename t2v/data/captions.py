"""Where the words about a clip come from.

Best first, decided for each clip by itself: a `.txt` of the same name, a file of captions (`metadata.py` names them) in
its folder or one above, the words of the file's name, the name of the nearest subfolder. A name that says nothing
(`IMG_0042`, a hash, a number) is passed over. An empty `.txt`, or an empty caption alone in a file of captions, says:
no caption, and ends the search. An empty one among others stands for no text, which is drawn like a caption.

Weights come from files of captions. A `.txt` has none: whatever sign told a weight there could stand in a caption.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from t2v.config import CAPTION_PLACEHOLDER
from t2v.data.matching import Metadata
from t2v.data.metadata_rows import Said, lines_of

CaptionSource = Literal["text file", "metadata", "file name", "folder name", "template", "empty", "none"]

MAX_TEXT_BYTES = 1 << 16

# What cameras, sites and programs put into names.
EMPTY_WORDS = frozenset(
    """img image images pic pics picture photo dsc dscn dscf dcim mvi mov movie vid video videos clip clips gif gifs
    giphy tenor ezgif tumblr imgur pxl gopr whatsapp screenshot screencast recording capture anim animation animated
    frame frames file untitled unnamed unknown output download downloaded copy tmp temp sample resized optimized seq
    sequence com www http https""".split()  # noqa: SIM905 a list of words reads better so
)
EMPTY_FOLDERS = EMPTY_WORDS | frozenset(
    """train training test testing val valid validation eval data dataset datasets set sets split part batch raw new old
    folder dir class classes misc other others all default""".split()  # noqa: SIM905
)
SHORT_WORDS = frozenset(
    "a i an of in on to at is it up by no my go we me he or as if be do us am so tv dj uk 2d 3d ox pi".split()  # noqa: SIM905
)
CLEAN_WORD = re.compile(r"([A-Z]?[a-z]+|[A-Z]+)([A-Z][a-z]+)*\d{0,4}")
WORD_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
HEXADECIMAL = re.compile(r"(?=.*\d)[0-9a-fA-F]{6,}|[0-9a-fA-F]{16,}")

SIDE = re.compile(
    r"(?<![^\W_])(?:(?:left|right)(?:s|most|wards?|hand|handed|sided?)?|(?:anti|counter)?clockwise)(?![^\W_])",
    re.IGNORECASE,
)


class Words(NamedTuple):
    """The captions of one clip and where they were found.

    captions: none, or some of which one at least is not empty
    source: "empty" where the place says that there is no caption, "none" where there is no such place
    weights: how often each caption is drawn, relative to the others; none where all are drawn alike
    doubts: what a person should know about them, as in "1 clip with ..."
    """

    captions: tuple[str, ...]
    source: CaptionSource
    weights: tuple[float, ...] = ()
    doubts: tuple[str, ...] = ()


def mentions_side(caption: str) -> bool:
    """Whether mirroring the clip would make its caption false: it says left, right or clockwise as a word.

    `right-hand`, `leftwards` and `turn_left` count; `bright`, `upright`, `copyright` and `leftover` do not.
    """
    return SIDE.search(caption) is not None


def choose_words(key: str, *, text: str | None, metadata: Mapping[str, Metadata]) -> Words:
    """Take the best source of captions for one clip.

    key: the clip's path in the data set, with `/`
    text: the content of its `.txt`, or None where there is none
    metadata: what files of captions say, by the folder each was found in ("" for the top)
    """
    told = list(_told(key, text, metadata))
    if told:
        return _best(told)
    parts = key.split("/")
    # A folder of frames is a clip whose name has no ending.
    if words := words_of_name(parts[-1].rpartition(".")[0] or parts[-1]):
        return Words((words,), "file name")
    for folder in reversed(parts[:-1]):
        if words := words_of_name(folder, empty_words=EMPTY_FOLDERS):
            return Words((words,), "folder name")
    return Words((), "none")


def fill_template(template: str, words: Words) -> Words:
    """The captions of a clip as the template makes them.

    With `{caption}` in it each caption takes that place; without, the template is the caption of every clip. What is to
    have no text keeps having none.
    """
    if not words.captions:
        has_none = CAPTION_PLACEHOLDER in template or words.source == "empty"
        return words if has_none else Words((template,), "template")
    shares: dict[str, float] = {}
    for caption, weight in zip(words.captions, words.weights or (1.0,) * len(words.captions), strict=True):
        filled = caption and template.replace(CAPTION_PLACEHOLDER, caption)
        shares[filled] = shares.get(filled, 0.0) + weight
    return words._replace(captions=tuple(shares), weights=_unless_equal(shares.values()))


def words_of_name(name: str, *, empty_words: frozenset[str] = EMPTY_WORDS) -> str | None:
    """The words that a file's or folder's name says, or None where it says nothing.

    `red-circle_bounces (2)` gives `red circle bounces`, `v_ApplyEyeMakeup_g01` gives `apply eye makeup`;
    `IMG_0042`, `3o7TKSjRrfIPjeiVyM` and `d41d8cd98f00` give None.
    """
    tokens = re.split(r"[^\w]+|_+", unicodedata.normalize("NFC", name))
    words = [word for token in tokens for word in _words_of_token(token) if word.lower() not in empty_words]
    return " ".join(words) if any(len(word) > 2 or not word.isascii() for word in words) else None


_Told = tuple[CaptionSource, str, Said]


def _told(key: str, text: str | None, metadata: Mapping[str, Metadata]) -> Iterator[_Told]:
    """What is said of a clip, best first: the kind of place, its name, the captions."""
    if text is not None:
        yield "text file", "its .txt", tuple((line, 1.0) for line in lines_of(text))
    parts = key.split("/")
    for depth in range(len(parts) - 1, -1, -1):
        found = metadata.get("/".join(parts[:depth]))
        if found is not None and key in found.said:
            yield "metadata", "/".join([*parts[:depth], found.name]), found.said[key]


def _best(told: Sequence[_Told]) -> Words:
    (source, place, said), *others = told
    captions, weights = _settled(said)
    doubts = [
        f"with other captions in {name} than in {place}, which counts"
        for _, name, there in others
        if set(_settled(there)[0]) != set(captions)
    ]
    if len(dict(said)) < len(said):
        doubts.append("with the same caption twice, which counts once")
    return Words(captions, source if captions else "empty", weights, tuple(doubts))


def _settled(said: Said) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Each caption once, and the weights; nothing where no caption holds a word."""
    first: dict[str, float] = {}
    for caption, weight in said:
        first.setdefault(caption, weight)
    return (tuple(first), _unless_equal(first.values())) if any(first) else ((), ())


def _unless_equal(weights: Iterable[float]) -> tuple[float, ...]:
    """Weights that are all alike are none: what is drawn does not depend on them."""
    given = tuple(weights)
    return given if len(set(given)) > 1 else ()


def _words_of_token(token: str) -> Iterator[str]:
    if not token.isascii():
        if token.isalpha():
            yield token
    elif token.lower() in SHORT_WORDS:
        yield token
    elif CLEAN_WORD.fullmatch(token) and not HEXADECIMAL.fullmatch(token):
        parts = WORD_PARTS.findall(token)
        for part in parts:
            if part.lower() in SHORT_WORDS or (len(part) > 2 and re.search("[aeiouyAEIOUY]", part)):
                yield part.lower() if len(parts) > 1 else part
