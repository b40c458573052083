"""Files of captions are read in the spellings of several trainers, and what is damaged is an error with its place."""

import json

import pytest

from t2v.data.metadata import read_lists, read_metadata_file
from t2v.errors import DatasetError

PLAIN = [("a.gif", (("red, round", 1.0),)), ("a.gif", (("again", 1.0),)), ("sub/b.gif", (("", 1.0),))]
LISTED = [("a.gif", (("red, round", 1.0), ("again", 1.0))), ("sub/b.gif", (("", 1.0),))]


def rows(path):
    return [(row.name, row.said) for row in read_metadata_file(path).rows]


def written(folder, name, content):
    """A file with this content, JSON for what is no text."""
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize(
    "text",
    [
        'file_name,caption\na.gif,"red, round"\na.gif,again\nsub/b.gif,\n',
        # Open-Sora's columns; Windows' line ends; more columns; a mark of UTF-8
        '\ufeffid,path,text\r\n1,a.gif,"red, round"\r\n2,a.gif,again\r\n\r\n3,sub/b.gif,\r\n',
        # as spreadsheets write where the comma belongs to numbers, and how they fill up rows
        "File Name;Caption;\na.gif;red, round;\na.gif;again;\n;;\nsub/b.gif;;\n",
        "video\tprompt\na.gif\tred, round\na.gif\tagain\nsub/b.gif\t\n",
    ],
)
def test_tables_are_read_in_their_usual_spellings(tmp_path, text):
    assert rows(written(tmp_path, "metadata.csv", text)) == PLAIN


@pytest.mark.parametrize(
    "content",
    [
        # musubi-tuner, LTX-Video-Trainer, Open-Sora-Plan and HunyuanVideo, Open-Sora's first version, in this order
        [{"video_path": "a.gif", "caption": ["red, round", "again"]}, {"video_path": "sub/b.gif", "caption": ""}],
        [{"caption": ["red, round", "again"], "media_path": "a.gif"}, {"caption": None, "media_path": "sub/b.gif"}],
        [{"path": "a.gif", "cap": ["red, round", "again"], "fps": 24}, {"path": "sub/b.gif", "cap": [""]}],
        [{"file": "a.gif", "captions": ["red, round", "again"]}, {"file": "sub/b.gif", "captions": ""}],
        # diffusion-pipe: an object by name; kohya's: objects in it
        {"a.gif": ["red, round", "again"], "sub/b.gif": ""},
        {"a.gif": {"caption": ["red, round", "again"], "tags": "x"}, "sub/b.gif": {"caption": ""}},
        # rows under a key, beside other lists as MSR-VTT has them
        {"version": 1, "data": [{"clip": "a.gif", "text": "red, round\nagain"}, {"clip": "sub/b.gif", "text": ""}]},
        {
            "info": {},
            "videos": [{"video_id": "a.gif", "split": "train"}],
            "sentences": [
                {"video_id": "a.gif", "caption": ["red, round", "again"]},
                {"video_id": "sub/b.gif", "caption": ""},
            ],
        },
    ],
)
def test_json_is_read_in_the_spellings_of_other_trainers(tmp_path, content):
    assert rows(written(tmp_path, "captions.json", content)) == LISTED
    if isinstance(content, list):
        lines = "\n\n".join(json.dumps(row) for row in content) + "\n"
        assert rows(written(tmp_path, "captions.jsonl", lines)) == LISTED


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.csv", "file,caption,weight\na.gif,red,2\na.gif,round,\na.gif,,0.5\n"),
        (
            "metadata.jsonl",
            '{"file": "a.gif", "caption": ["red"], "weight": 2}\n'
            '{"file": "a.gif", "captions": ["round", ""], "weights": [1, 0.5]}',
        ),
        ("captions.json", {"a.gif": [{"text": "red", "weight": 2}, "round", {"text": "", "weight": "0.5"}]}),
    ],
)
def test_captions_may_have_weights(tmp_path, name, content):
    said = [pair for _, row in rows(written(tmp_path, name, content)) for pair in row]
    assert said == [("red", 2.0), ("round", 1.0), ("", 0.5)]


@pytest.mark.parametrize("weight", [0, -1, "much", True, [1], 1e9, float("nan")])
def test_a_weight_that_is_none_is_refused(tmp_path, weight):
    content = json.dumps([{"file": "a.gif", "caption": ["x", "y"], "weight": weight}])
    with pytest.raises(
        DatasetError, match=r"item 1(: a weight must be a number above 0| has 1 weights for 2 captions)"
    ):
        read_metadata_file(written(tmp_path, "captions.json", content))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("metadata.csv", "name,caption\na.gif,x\n", r"line 2 has no file_name \(or .*\); it has name, caption"),
        ("metadata.csv", "file_name,label\na.gif,x\n", r"line 2 has no caption"),
        ("metadata.csv", "file_name,caption\n,x\n", r"line 2 names no file"),
        ("metadata.csv", "file_name,caption\na.gif,red, round\n", r"line 2 has 3 cells .* 2; .* in double quotes"),
        ("metadata.csv", "file_name,caption\na.gif,x\nb.gif\n", r"line 3 has 1 cells"),
        ("metadata.csv", 'file_name,caption\na.gif,"x\nb.gif,y\n', r"line 3 is not readable CSV"),
        ("metadata.csv", 'file_name,caption\na.gif,"x" y\n', r"line 2 is not readable CSV"),
        ("metadata.csv", "file,Caption,caption\na.gif,x,y\n", "line 2 has the column 'caption' twice"),
        ("metadata.jsonl", '{"file_name": "a.gif", "text": "x"}\n[1]\n', "line 2 is not a JSON object like"),
        ("metadata.jsonl", '{"file_name": "a.gif"', "line 1 is not readable JSON"),
        ("metadata.jsonl", '{"file_name": "a.gif", "text": 7}', "line 1: a caption must be text, not 7"),
        ("metadata.jsonl", '{"file_name": ["a.gif"], "text": "x"}', "line 1 names no file"),
        ("metadata.jsonl", '{"file_name": "a.gif", "text": "\\ud800"}', "line 1 holds half of a character"),
        ("metadata.jsonl", "9" * 5000, "line 1 is not readable JSON"),
        ("captions.json", "[" * 100_000, "not readable JSON"),
        ("captions.json", '[\n{"file": "a.gif"\n]', "line 3 is not readable JSON"),
        ("captions.json", '{"a.gif": "x", "b.gif": "y", "a.gif": "z"}', "has 'a.gif' twice"),
        ("captions.json", {"a.gif": 7}, "at 'a.gif': a caption must be text, not 7"),
        ("captions.json", {"a.gif": {"label": "x"}}, "at 'a.gif' has no caption"),
        ("captions.json", ["a.gif"], "item 1 is not an object like"),
        ("captions.json", "7", "is neither a list of objects like .* nor an object of names and captions"),
        ("captions.json", {"data": [{"video": "a.gif"}]}, "files listed under 'data', and 0 of these lists"),
        ("captions.json", {"a.gif": "x" * 70_000}, "at most 65,536 characters"),
    ],
)
def test_unusable_files_are_an_error_and_never_a_silence(tmp_path, name, content, said):
    with pytest.raises(DatasetError, match=said) as raised:
        read_metadata_file(written(tmp_path, name, content))
    assert str(tmp_path / name) in str(raised.value)


@pytest.mark.parametrize("name", ["metadata.csv", "captions.json"])
def test_text_that_is_not_utf8_is_said(tmp_path, name):
    (tmp_path / name).write_bytes(b"file_name,caption\na.gif,caf\xe9\n")
    with pytest.raises(DatasetError, match="is not UTF-8 text; save it as UTF-8"):
        read_metadata_file(tmp_path / name)


def lists(folder, clips, captions):
    return read_lists(written(folder, "videos.txt", clips), written(folder, "prompts.txt", captions))


def test_a_pair_of_lists_is_read_line_by_line(tmp_path):
    table = lists(tmp_path, "a.gif\r\nvideos/b.gif\nc.gif\n\n", "  red  cat\r\n\nnot\u2028a line\x0cend\n")
    assert [(row.name, row.said) for row in table.rows] == [
        ("a.gif", (("red cat", 1.0),)),
        ("videos/b.gif", (("", 1.0),)),
        ("c.gif", (("not a line end", 1.0),)),
    ]


@pytest.mark.parametrize(
    ("clips", "captions", "said"),
    [
        ("a.gif\nb.gif\n", "red\n", "videos.txt names 2 clips and prompts.txt holds 1 captions"),
        ("a.gif\n", "red\nblue\n", "names 1 clips and prompts.txt holds 2 captions"),
        ("a.gif\n\nb.gif\n", "red\n\nblue\n", "videos.txt line 2 names no clip"),
    ],
)
def test_lists_whose_lines_do_not_belong_together_are_refused(tmp_path, clips, captions, said):
    with pytest.raises(DatasetError, match=said):
        lists(tmp_path, clips, captions)
