"""JPEG pictures, which are stills."""

from t2v.data.limits import Limits
from t2v.data.readers.opened import Opened
from t2v.data.readers.pillow import open_still
from t2v.errors import ClipError

DAMAGED = "is a damaged JPEG"
FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without content


def open_jpeg(data: bytes, limits: Limits) -> Opened:
    """Raises ClipError for damage before the pixels, and for a picture beyond the limits."""
    limits.check_size(*_size(data))
    return open_still(data, "JPEG", DAMAGED)


def _size(data: bytes) -> tuple[int, int]:
    """Width and height of the first frame header, without asking a library that might act on it."""
    place = 2
    while place + 9 <= len(data):
        if data[place] != 0xFF:
            break
        marker = data[place + 1]
        if marker in FRAME_HEADERS:
            height, width = (int.from_bytes(data[start : start + 2]) for start in (place + 5, place + 7))
            return width, height
        if marker == 0xFF:
            place += 1
        elif marker in BARE:
            place += 2
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4])
    raise ClipError(DAMAGED)
