"""The outermost structure of video files, for what libav forgives: a file that ends before it says so."""

from t2v.errors import ClipError

BREAKS_OFF = "breaks off before its end"
EBML, SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"
LIVE = (1 << 56) - 1  # a size that says: as long as it lasts


def check_boxes(data: bytes) -> None:
    """MP4 and MOV: the boxes of the file must lie in it. Raises ClipError."""
    place = 0
    while place + 8 <= len(data):
        size = int.from_bytes(data[place : place + 4])
        if size == 1:
            size = int.from_bytes(data[place + 8 : place + 16])
        if size == 0:  # to the end
            return
        if size < 8:
            if any(data[place:]):
                raise ClipError("is damaged between its boxes")
            return
        place += size
    if place > len(data):
        raise ClipError(BREAKS_OFF)


def check_segment(data: bytes) -> None:
    """WebM and MKV: the segment must lie in the file. Raises ClipError."""
    size, place = _vint(data, len(EBML))
    start = place + size
    if data[start : start + len(SEGMENT)] != SEGMENT:
        return  # something lies between, which libav may know
    size, place = _vint(data, start + len(SEGMENT))
    if size != LIVE and place + size > len(data):
        raise ClipError(BREAKS_OFF)


def check_riff(data: bytes) -> None:
    """AVI: the list of frames must lie in the file. Raises ClipError."""
    if 8 + int.from_bytes(data[4:8], "little") > len(data):
        raise ClipError(BREAKS_OFF)


def doc_type(data: bytes) -> str:
    """What an EBML file says it is: "webm" or "matroska"; "" where it does not say."""
    place = data.find(b"\x42\x82", 0, 64)
    if place < 0:
        return ""
    size, start = _vint(data, place + 2)
    return data[start : start + size].rstrip(b"\0").decode("latin-1")


def _vint(data: bytes, place: int) -> tuple[int, int]:
    """A number of EBML, whose first byte tells its length, and the place after it; every bit set gives LIVE."""
    first = data[place] if place < len(data) else 0
    length = 9 - first.bit_length()
    if length > 8 or place + length > len(data):
        raise ClipError(BREAKS_OFF)
    number = int.from_bytes(data[place : place + length]) & ((1 << 7 * length) - 1)
    return (LIVE if number == (1 << 7 * length) - 1 else number), place + length
