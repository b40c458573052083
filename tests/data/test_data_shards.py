"""What goes into shards comes out with its own captions, and hostile tars do no harm."""

import io
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from t2v.data import marks, pack, shards
from t2v.data.folder import ClipRecord
from t2v.data.gif import encode
from t2v.data.pack import pack_folder
from t2v.data.pixels import Pixels
from t2v.data.shards import find_shards, load_shards, scan_shards
from t2v.data.tar import read_members
from t2v.data.workers import Workers
from t2v.errors import ClipError, DatasetError

PIXELS = Pixels(num_frames=2, size=8, channels=3, background="white", fit="crop")


def gif(shade: int) -> bytes:
    return encode(np.full((2, 8, 8, 3), shade, dtype=np.uint8), frame_ms=100, comment=None)


def write_tar(path: Path, files: list[tuple[str, bytes]], *, form: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve clips whose caption says their shade, one without any, and a damaged one."""
    made = tmp_path / "gifs"
    made.mkdir()
    for number in range(12):
        (made / f"{number:02}.gif").write_bytes(gif(10 * number))
        (made / f"{number:02}.txt").write_text(f"shade {10 * number}\nit stands still, \u00fcberall")
    (made / "silent.gif").write_bytes(gif(255))
    (made / "silent.txt").touch()
    (made / "torn.gif").write_bytes(gif(1)[:-9])
    return made


def shades(loaded) -> list[tuple[int, tuple[str, ...]]]:
    return [
        (int(frames[0, 0, 0, 0]), record.captions) for frames, record in zip(loaded.frames, loaded.records, strict=True)
    ]


@pytest.mark.usefixtures("decoder_processes")
def test_what_is_packed_comes_back_with_its_own_captions(folder, tmp_path):
    packed = pack_folder(folder, tmp_path / "out", max_bytes=20_000)
    assert len(packed.shards) > 2
    assert all(path.stat().st_size <= 20_480 for path in packed.shards)
    assert [item.key for item in packed.scan.left_out] == ["torn.gif"]
    loaded = load_shards(find_shards(tmp_path / "out"), PIXELS)
    expected = [(10 * k, (f"shade {10 * k}", "it stands still, überall")) for k in range(12)]
    assert sorted(shades(loaded)) == [*expected, (255, ())]
    loaded.frames.close()


def test_equal_folders_give_equal_shards_and_neighbours_are_parted(folder, tmp_path):
    one, other = (pack_folder(folder, tmp_path / name, max_bytes=1 << 20).shards for name in ("one", "other"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]
    order = [record.captions for record in scan_shards(one).clips]
    assert order != sorted(order)


def test_a_place_that_holds_something_is_left_as_it_is(folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("precious")
    with pytest.raises(DatasetError, match="holds something already; name a folder that is empty"):
        pack_folder(folder, tmp_path / "out", max_bytes=1 << 20)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_shards_appear_whole_or_not_at_all(folder, tmp_path, monkeypatch):
    def interrupted(name: str, clip: ClipRecord):
        if name == "000009":
            raise KeyboardInterrupt
        return files(name, clip)

    files = pack._files
    monkeypatch.setattr(pack, "_files", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack_folder(folder, tmp_path / "out", max_bytes=20_000)
    assert [path.name for path in tmp_path.iterdir()] == ["gifs"]


def test_a_clip_that_changed_since_it_was_read_is_not_packed(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "read_contents", lambda paths: (gif(3),))
    with pytest.raises(DatasetError, match="changed while it was packed; pack once more"):
        pack_folder(folder, tmp_path / "out", max_bytes=20_000)


def test_shards_of_others_are_read_by_their_conventions(tmp_path):
    captions = {
        "a/x.y.gif": ("first", "second"),
        "a/z.gif": ("from json",),
        "b/0001.gif": ("one", "two"),
        "b/0002.gif": (),
        "b/a red kite.GIF": ("a red kite",),
    }
    shard = write_tar(
        tmp_path / "a.tar",
        [
            ("a/x.y.gif", b"passed over: its ending is .y.gif"),
            ("a/x.gif", gif(1)),
            ("a/x.txt", b"first\nsecond\n"),
            ("a/x.cls", b"7"),
            ("a/z.json", json.dumps({"text": "from json", "width": 8}).encode()),
            ("a/z.txt", b"not this"),
            ("a/z.gif", gif(2)),
            ("b/0001.gif", gif(3)),
            ("b/0001.json", json.dumps({"captions": ["one", "two"]}).encode()),
            ("b/0002.gif", gif(4)),
            ("b/0002.json", b"[1, 2]"),
            ("b/a red kite.GIF", gif(5)),
        ],
    )
    loaded = load_shards([shard], PIXELS)
    del captions["a/x.y.gif"]
    told = {"a/x.gif": ("first", "second"), **captions}
    assert {record.key: record.captions for record in loaded.records} == {
        f"a.tar/{key.replace('.GIF', '.gif')}": words for key, words in told.items()
    }
    assert [shade for shade, _ in shades(loaded)] == [1, 2, 3, 4, 5]
    loaded.frames.close()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_are_read_however_a_tar_spells_them(tmp_path, form):
    names = ["short.gif", f"{'folder/' * 16}deep.gif", *([] if form == tarfile.USTAR_FORMAT else [f"{'é' * 120}.gif"])]
    path = write_tar(tmp_path / "a.tar", [(name, b"x" * 600) for name in names], form=form)
    members, broken = read_members(path)
    assert [member.name for member in members] == names
    assert broken is None
    assert all(path.read_bytes()[member.offset :][: member.size] == b"x" * 600 for member in members)


def test_links_devices_and_sparse_files_are_passed_over(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            info = tarfile.TarInfo(f"{kind.decode()}.gif")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        sparse = tarfile.TarInfo("sparse.gif")
        sparse.pax_headers = {"GNU.sparse.major": "1"}
        tar.addfile(sparse)
        tar.addfile(tarfile.TarInfo("../../up.gif"))
    members, broken = read_members(tmp_path / "a.tar")
    assert [member.name for member in members] == ["../../up.gif"]  # a name, which no file is ever given
    assert broken is None


def test_a_shard_that_breaks_off_gives_what_is_whole_and_says_so(tmp_path):
    path = write_tar(tmp_path / "a.tar", [(f"{k}.gif", gif(k)) for k in range(3)])
    members, _ = read_members(path)
    path.write_bytes(path.read_bytes()[: members[2].offset + 5])
    scan = scan_shards([path])
    assert [clip.key for clip in scan.clips] == ["a.tar/0.gif", "a.tar/1.gif"]
    assert [(item.key, item.reason) for item in scan.left_out] == [("a.tar", "breaks off (after 2 files)")]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: b"\x1f\x8b" + data[2:], "is compressed; unpack it with gunzip"),
        (lambda data: data[:148] + b"7777777\0" + data[156:], "is no tar, or damaged"),
        (lambda data: data[:100], "is no tar, or damaged"),
    ],
)
def test_what_is_no_tar_is_said_to_be_none(tmp_path, damage, reason):
    path = write_tar(tmp_path / "a.tar", [("a.gif", gif(1))])
    path.write_bytes(damage(path.read_bytes()))
    assert read_members(path) == ([], reason)


@pytest.mark.parametrize("size", [b"-0000000020\0", b"0000_000020\0", b"\x80" + b"\xff" * 11, b"\xff" * 12])
def test_a_size_that_lies_leads_nowhere(tmp_path, size):
    path = write_tar(tmp_path / "a.tar", [("a.gif", gif(1)), ("b.gif", gif(2))], form=tarfile.USTAR_FORMAT)
    data = bytearray(path.read_bytes())
    data[124:136] = size
    data[148:156] = b"%06o\0 " % sum(data[:148] + b" " * 8 + data[156:512])
    path.write_bytes(data)
    members, broken = read_members(path)
    assert members == [] and broken


@pytest.mark.parametrize("seed", range(40))
def test_random_damage_to_a_tar_never_does_more_than_leave_something_out(tmp_path, seed):
    draw = np.random.default_rng(seed)
    path = write_tar(tmp_path / "a.tar", [(f"{'long' * 30}{k}.gif", bytes(300)) for k in range(4)])
    data = bytearray(path.read_bytes())
    for _ in range(20):
        data[draw.integers(0, len(data))] = draw.integers(0, 256)
    path.write_bytes(data[: draw.integers(1, len(data))])
    members, _ = read_members(path)
    assert all(member.offset + member.size <= path.stat().st_size for member in members)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([("a.txt", b"\xe9")], "has a caption file a.txt that is not UTF-8 text"),
        ([("a.txt", b"x" * 70_000)], "has a caption file a.txt of more than 64 KB"),
        ([("a.json", b"{")], "has a .json that is damaged"),
        ([("a.json", b'{"caption": 3}')], "has a .json of its sample: a caption must be text, not 3"),
    ],
)
def test_captions_that_cannot_be_read_take_their_clip_along(tmp_path, files, reason):
    path = write_tar(tmp_path / "a.tar", [("a.gif", gif(1)), *files, ("b.gif", gif(2))])
    scan = scan_shards([path])
    assert [clip.key for clip in scan.clips] == ["a.tar/b.gif"]
    assert [(item.key, item.reason) for item in scan.left_out] == [("a.tar/a.gif", reason)]


def test_a_member_larger_than_a_file_may_be_is_not_read(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("a.gif", bytes(2 << 20)), ("b.gif", gif(2))])
    said: list[str] = []
    bounded = replace(PIXELS, limits=replace(PIXELS.limits, max_bytes=1 << 20))
    clips = load_shards([path], bounded, say=said.append)
    assert [record.num_frames for record in clips.records] == [0, 2]
    assert clips.frames.resolve(0) == 1
    clips.frames.close()
    assert said == [
        "left out: a.tar/a.gif has 2 MB; the most is 1 MB (limits.max_bytes); the next of its shard takes its place"
    ]


def test_braces_and_folders_name_shards(tmp_path):
    made = [write_tar(tmp_path / f"{number:03}.tar", []) for number in range(12)]
    assert find_shards(tmp_path) == tuple(made)
    assert find_shards(tmp_path / "{003..010}.tar") == tuple(made[3:11])
    assert find_shards(tmp_path / "{001,00{5..6}}.tar".replace("{5..6}", "5")) == (made[1], made[5])
    assert find_shards(tmp_path / "0{0..1}{0..1}.tar") == (made[0], made[1], made[10], made[11])
    assert find_shards(made[4]) == (made[4],)
    with pytest.raises(DatasetError, match=r"names shards that are not there: .*012\.tar"):
        find_shards(tmp_path / "{010..012}.tar")


def test_clips_beside_shards_are_never_passed_over(folder, tmp_path):
    assert find_shards(folder) == ()
    assert find_shards(tmp_path / "nowhere") == ()
    write_tar(folder / "backup.tar", [])
    with pytest.raises(DatasetError, match=r"holds both clips and shards such as backup\.tar"):
        find_shards(folder)


def test_an_index_is_remembered_for_as_long_as_its_shard_is_the_same(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(marks, "CLOCK_GRAIN_NS", 0)
    (shard,) = pack_folder(folder, tmp_path / "out", max_bytes=1 << 20).shards
    walked = []
    monkeypatch.setattr(shards, "read_members", lambda path: walked.append(path) or read_members(path))
    first = scan_shards([shard], cache=tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(Workers, "decode", None)  # nothing is decoded either
        assert scan_shards([shard], cache=tmp_path / "cache") == first
    assert len(walked) == 1
    stat = os.stat(shard)
    shard.write_bytes(shard.read_bytes().replace(b"shade 110", b"shade 999"))
    os.utime(shard, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert scan_shards([shard], cache=tmp_path / "cache").manifest != first.manifest
    assert len(walked) == 2


def test_the_manifest_is_of_shards_and_changes_with_captions_and_who_has_them(tmp_path):
    def manifest(*captions: bytes) -> dict:
        files = [
            (f"{k}.{ending}", content)
            for k, text in enumerate(captions)
            for ending, content in (("gif", gif(k)), ("txt", text))
        ]
        return scan_shards([write_tar(tmp_path / "a.tar", files)]).manifest

    first = manifest(b"red", b"tan")
    assert first["a.tar"]["captions"] == ["red", "tan"]
    assert first["a.tar"]["num_clips"] == 2
    assert first != manifest(b"tan", b"red")
    assert first == manifest(b"red", b"tan")


@pytest.fixture
def stream(tmp_path):
    """stream(damaged) gives two shards of four clips, some of them damaged, and what is said of it."""

    def make(*damaged: int):
        said: list[str] = []
        paths = [
            write_tar(
                tmp_path / f"{name}.tar",
                [(f"{k}.gif", gif(k)[: -9 if k in damaged else None]) for k in range(start, start + 4)],
            )
            for name, start in (("a", 0), ("b", 4))
        ]
        opened.append(load_shards(paths, PIXELS, say=said.append, num_workers=2).frames)
        return opened[-1], said

    opened: list = []
    yield make
    for one in opened:
        one.close()


@pytest.mark.parametrize("followed", [True, False])
def test_the_next_of_its_shard_takes_the_place_of_a_damaged_clip(stream, followed):
    clips, said = stream(1, 2, 4, 7)
    order = [0, 1, 2, 3, 7, 4, 1, 7, 1]
    if followed:
        clips.follow(iter(order), ahead=3)
    assert [clips.resolve(index) for index in order] == [0, 3, 3, 3, 5, 5, 3, 5, 3]
    assert sorted(line.split(" breaks off")[0] for line in said) == [
        f"left out: {key}" for key in ("a.tar/1.gif", "a.tar/2.gif", "b.tar/4.gif", "b.tar/7.gif")
    ]
    assert [int(clips[index][0, 0, 0, 0]) for index in (0, 3, 5)] == [0, 3, 5]


def test_a_damaged_shard_is_replaced_by_the_next(stream):
    clips, _ = stream(4, 5, 6, 7)
    assert clips.resolve(6) == 0
    with pytest.raises(ClipError, match=r"b\.tar/5\.gif breaks off"):
        clips[5]


def test_shards_without_a_single_good_clip_are_an_error(stream):
    with pytest.raises(DatasetError, match="no clip of 8 that were looked at can be read"):
        stream(*range(8))


def test_what_is_decoded_ahead_is_bounded(stream, monkeypatch):
    clips, _ = stream()
    decoded = []
    decode = clips._decode
    monkeypatch.setattr(clips, "_decode", lambda index, workers: decoded.append(index) or decode(index, workers))
    clips.follow(iter(range(8)), ahead=3)
    clips.resolve(0)
    assert max(decoded) <= 4
