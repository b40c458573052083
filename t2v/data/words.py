"""The words of captions and prompts: what they are, how often they occur, and which of a prompt no caption had."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches

from t2v.config import CAPTION_PLACEHOLDER

MAX_WORDS = 5000  # that a checkpoint names; 40 kB
MAX_NAMED = 5  # words a sentence names, each with its nearest: a search for that takes 10 ms among 5,000
LIKENESS = 0.7  # of a misspelled word and the one that was meant, as difflib counts it
SHORTEST_STEM = 3

# Words that say how others belong together: that a caption lacks one changes nothing about what is drawn.
# The single letters are what an apostrophe leaves of 's, 't, 'm and 'd.
FUNCTION_WORDS = frozenset(
    """a an the this that these those some any each every no not and or but nor so as if than then while when where
    which who whose whom what how of in on at to from by with without for into onto upon about above across after again
    against along among around before behind below beneath beside besides between beyond during except inside near off
    out outside over past since through throughout till toward towards under until up down via within i me my you your
    he him his she her it its we us our they them their there here is are was were be been being am do does did have
    has had will would can could shall should may might must just very too also only s t m d ll re ve""".split()  # noqa: SIM905
)
# Scripts that put no spaces between words: Thai to Burmese, Khmer, and from Japanese to Chinese.
UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")


def words_of(text: str) -> list[str]:
    """Runs of letters and digits, in small letters, in order."""
    return "".join(character if character.isalnum() else " " for character in text.lower()).split()


def vocabulary(captions: Iterable[str]) -> Counter[str]:
    """Every word with the number of captions that have it."""
    return Counter(word for caption in captions for word in set(words_of(caption)))


def most_frequent(captions: Iterable[str], *, most: int = MAX_WORDS) -> tuple[str, ...]:
    """The words that most captions have, in the order of the alphabet."""
    counted = sorted(vocabulary(captions).items(), key=lambda item: (-item[1], item[0]))
    return tuple(sorted(word for word, _ in counted[:most]))


def unseen_words(text: str, known: Iterable[str]) -> tuple[str, ...]:
    """The words of a prompt that are not among the known ones, each once, in order.

    Function words, plurals of what is known and its singulars are not named, nor is text without spaces between words.
    """
    known = frozenset(known)
    asked = (word for word in dict.fromkeys(words_of(text)) if word not in FUNCTION_WORDS and not UNSPACED.search(word))
    return tuple(word for word in asked if known.isdisjoint(_numbers(word)))


def nearest_word(word: str, known: Sequence[str]) -> str | None:
    """The known word that was perhaps meant: spelled almost like it, or one that begins with it or that it begins
    with."""
    alike = get_close_matches(word, known, n=1, cutoff=LIKENESS)
    if alike:
        return alike[0]
    related = [
        other for other in known if min(len(word), len(other)) >= SHORTEST_STEM and (_begins(word, other) is not None)
    ]
    return max(related, key=lambda other: (_begins(word, other), other), default=None)


def unseen_sentence(text: str, known: Sequence[str]) -> str | None:
    """One line about the words of a prompt that no caption had; None where there are none, or nothing is known.

    known: of the captions; MAX_WORDS of them are the most frequent only
    """
    unseen = unseen_words(text, known) if known else ()
    if not unseen:
        return None
    near = {word: nearest_word(word, known) for word in unseen[:MAX_NAMED]}
    lacked = (
        f"not among the {MAX_WORDS:,} most frequent of the captions" if len(known) >= MAX_WORDS else "in no caption"
    )
    if len(unseen) == 1:
        (word, other), *_ = near.items()
        return f"the word {word!r} was {lacked}" + (f"; the nearest is {other!r}" if other else "")
    named = [f"{word!r}" + (f" (the nearest is {other!r})" if other else "") for word, other in near.items()]
    more = len(unseen) - len(near)
    *first, last = [*named, f"{more} more"] if more else named
    return f"the words {', '.join(first)} and {last} were {lacked}"


def is_filled(template: str, text: str) -> bool:
    """Whether a text has all that a template of captions puts around them, in the same order; letter case aside."""
    said, at = " ".join(words_of(text)), 0
    for part in (" ".join(words_of(part)) for part in template.split(CAPTION_PLACEHOLDER)):
        at = said.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True


def _begins(word: str, other: str) -> int | None:
    """Letters of the shorter word where the longer one begins with it; None where it does not."""
    shorter, longer = sorted((word, other), key=len)
    return len(shorter) if longer.startswith(shorter) else None


def _numbers(word: str) -> Iterator[str]:
    """A word, and what English could write for one or several of it: cat cats, box boxes, city cities."""
    yield word
    yield from (word + "s", word + "es")
    if word.endswith("y"):
        yield word[:-1] + "ies"
    for plural, singular in (("ies", "y"), ("es", ""), ("s", "")):
        if word.endswith(plural) and len(word) - len(plural) >= 2:
            yield word.removesuffix(plural) + singular
