"""The files of captions that lie among the clips: which ones there are, and what they say of each clip."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from t2v.data.listing import Listing, stem
from t2v.data.matching import Metadata, match
from t2v.data.metadata import CAPTION_LISTS, CLIP_LISTS, read_lists, read_metadata_file
from t2v.errors import DatasetError


def read_captions(folder: Path, listing: Listing) -> tuple[Listing, dict[str, Metadata]]:
    """What files of captions say, by the folder each lies in; and the listing without the `.txt` files among them.

    Raises DatasetError where one cannot be read, or where a folder holds two.
    """
    lists = _pairs(listing)
    tables = {where: read_metadata_file(path) for where, path in listing.metadata.items()}
    for where, keys in lists.items():
        clips, *captions = (listing.texts[key] for key in keys)
        names = [path.name for path in (clips, *captions)] + ([tables[where].name] if where in tables else [])
        if len(names) > 2:
            raise DatasetError(f"{clips.parent} holds {', '.join(names)}; keep one file, or one pair, of captions")
        tables[where] = read_lists(clips, *captions)
    pairs = {key for keys in lists.values() for key in keys}
    texts = {key: path for key, path in listing.texts.items() if key not in pairs}
    stems = {key: stem(key) for key in listing.clips}
    said = {where: match(table, stems, folder=folder, where=where) for where, table in tables.items()}
    return replace(listing, texts=texts), said


def _pairs(listing: Listing) -> Mapping[str, list[str]]:
    """By folder, the keys of its lists of clips and then those of its lists of captions, where it has both."""
    clips = {stem(key) for key in listing.clips}
    found: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for key, path in sorted(listing.texts.items()):
        if key in clips:  # a `video.txt` beside `video.gif` has the captions of that clip
            continue
        for names, keys in zip((CLIP_LISTS, CAPTION_LISTS), found[key.rpartition("/")[0]], strict=True):
            if path.name.lower() in names:
                keys.append(key)
    return {
        where: [*clip_lists, *caption_lists]
        for where, (clip_lists, caption_lists) in found.items()
        if clip_lists and caption_lists
    }
