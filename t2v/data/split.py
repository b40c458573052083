"""Which clips are kept from training, to judge it by: a function of each clip's content, so that nothing ever moves.

Whether a clip is held out depends on its hash and the share alone. It does not depend on the other clips, on their
number, names or order, nor on any other setting, and a clip held out at one share is so at every larger one. Clips
that stay in training may be too near to one held out; these are set aside: a copy of a clip that was trained on says
nothing of what was learned.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from t2v.data.folder import LoadedClips
from t2v.data.near import Group, near_groups, signature
from t2v.errors import DatasetError


@dataclass(frozen=True)
class Split:
    """Places of clips, each in one of three lists, in order.

    set_aside: neither trained on nor judged by, as they are near duplicates of a clip held out
    """

    training: Group
    held_out: Group
    set_aside: Group


def is_held_out(sha256: str, share: float) -> bool:
    """Whether the clip of this content is held out, where a share of all clips is.

    sha256: of the clip's content, in hex; share: in [0, 1]
    """
    # Hashed once more: whoever picks files by the digits of their hash must not pick a side by it.
    digest = hashlib.sha256(f"t2v held out {sha256}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def split_clips(hashes: Sequence[str], share: float, groups: Sequence[Group]) -> Split:
    """Which clips are trained on, which are held out, and which are set aside.

    hashes: SHA-256 of each clip's content; share: of all clips that is held out, in [0, 1]
    groups: places of near duplicates, as `near.near_groups` finds them
    A clip more in the folder never moves another into the clips held out nor out of them; from training it can only
    take its own near duplicates, and only where it is held out itself.
    """
    held_out = {place for place, sha256 in enumerate(hashes) if is_held_out(sha256, share)}
    too_near = {place for group in groups if held_out.intersection(group) for place in group} - held_out
    training = [place for place in range(len(hashes)) if place not in held_out and place not in too_near]
    return Split(tuple(training), tuple(sorted(held_out)), tuple(sorted(too_near)))


def split_loaded(clips: LoadedClips, share: float) -> Split:
    """`split_clips` of clips whose pixels are at hand."""
    if not share:
        return Split(tuple(range(len(clips.records))), (), ())
    groups = near_groups([signature(frames) for frames in clips.frames])
    return split_clips([record.sha256 for record in clips.records], share, groups)


def for_training(clips: LoadedClips, split: Split) -> LoadedClips:
    """The clips that are trained on, as if no others lay in the folder. Raises DatasetError where there are none."""
    if not split.training:
        raise DatasetError(f"no clip of {clips.scan.folder} is left to train on: lower data.hold_out, or add clips")
    scan = replace(clips.scan, clips=tuple(clips.records[place] for place in split.training))
    return LoadedClips(scan, [clips.frames[place] for place in split.training], clips.num_decoded)
