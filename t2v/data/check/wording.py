"""What the captions of a folder say: their words, and captions that teach nothing or are not read to the end."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from t2v.data.captions import EMPTY_WORDS, mentions_side
from t2v.data.check.findings import Examined, Finding, about
from t2v.data.folder import ClipRecord, count
from t2v.data.words import words_of

MANY_SHARE = 3  # clips of one caption that are worth a note: a clip and its mirror image are two


def count_words(records: Sequence[ClipRecord]) -> Counter[str]:
    """Every word of the captions with the number of clips that have it, the most frequent first."""
    counted = Counter(
        word for record in records for word in {word for caption in record.captions for word in words_of(caption)}
    )
    return Counter(dict(sorted(counted.items(), key=lambda item: (-item[1], item[0]))))


def caption_findings(seen: Examined) -> Iterator[Finding]:
    """Findings about captions."""
    records, recipe = seen.records, seen.recipe
    if not any(record.captions for record in records):
        yield Finding(
            "no_captions",
            "warning",
            "no clip has a caption: the model will be unconditional, and prompts will do nothing",
        )
        return
    empty = _having(records, lambda caption: not _says_something(caption))
    yield from about("says_nothing", "warning", empty, "with a caption that says nothing of the picture")
    most = recipe.text.max_tokens - 2  # the encoder adds a token at each end, and words are one token or more
    long = _having(records, lambda caption: len(words_of(caption)) > most)
    yield from about(
        "long_caption",
        "warning",
        long,
        f"with a caption of more than {most} words: its end is not read (text.max_tokens)",
    )
    sided = _having(records, mentions_side) if recipe.data.flip_prob else ()
    yield from about("never_mirrored", "note", sided, "never mirrored: a caption says left, right or clockwise")
    yield from _shared(records)
    sources = {record.caption_source for record in records if record.captions}
    if len(sources) > 1:
        yield Finding("sources", "note", f"captions come from different places: {', '.join(sorted(sources))}")
    rare = [word for word, number in count_words(records).items() if number == 1]
    if rare:
        words = f"{count(len(rare), 'word')} of the captions {'is' if len(rare) == 1 else 'are'} in one clip only"
        yield Finding("rare_words", "note", words)


def _shared(records: Sequence[ClipRecord]) -> Iterator[Finding]:
    clips_of: dict[str, list[str]] = {}
    for record in records:
        for caption in record.captions:
            clips_of.setdefault(" ".join(words_of(caption)), []).append(record.key)
    shared = sorted((keys for keys in clips_of.values() if len(keys) >= MANY_SHARE), key=len, reverse=True)
    if shared:
        keys = tuple(dict.fromkeys(key for group in shared for key in group))
        longest = next(caption for caption, keys in clips_of.items() if keys is shared[0])
        what = f"that share a caption with others; most often {longest[:60]!r} ({len(shared[0]):,})"
        yield Finding("shared_captions", "note", f"{count(len(keys), 'clip')} {what}", keys, tuple(map(tuple, shared)))


def _having(records: Sequence[ClipRecord], holds: Callable[[str], bool]) -> tuple[str, ...]:
    """Keys of the clips with a caption of which something holds."""
    return tuple(record.key for record in records if any(map(holds, record.captions)))


def _says_something(caption: str) -> bool:
    """Whether any word is more than a number, or than what cameras and programs call files."""
    return any(not word.isdigit() and word not in EMPTY_WORDS for word in words_of(caption))
