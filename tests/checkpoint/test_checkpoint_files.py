"""A model in one file: it comes back as it went, and anything else is refused in one line."""

import json

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from t2v.checkpoint import (
    FORMAT_VERSION,
    HEADER_KEY,
    Header,
    as_bfloat16,
    load_checkpoint,
    read_header,
    resolve,
    save_checkpoint,
)
from t2v.checkpoint.run_folder import RunFolder
from t2v.errors import CheckpointError


@pytest.fixture
def path(make_checkpoint):
    return make_checkpoint("model.safetensors", cond_dim=5)


@pytest.fixture
def run(path, tmp_path):
    """A run with two saved steps; the averaged weights are a whole checkpoint, the others are not read here."""
    run = RunFolder(tmp_path / "runs" / "gifs")
    run.create()
    run.plan.write_text("{}")
    for step in (20, 40):

        def write(folder, step=step):
            checkpoint = load_checkpoint(path)
            header = checkpoint.header.model_copy(update={"step": step})
            save_checkpoint(folder.ema, checkpoint.weights, header)
            save_checkpoint(folder.weights, checkpoint.weights, header)

        run.save_step(step, write)
    return run


def refusal(path):
    """The one line with which every way in refuses a file."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    with pytest.raises(CheckpointError):
        read_header(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def with_header(path, **changes):
    """The same weights under a changed header; a value of ... takes its key away."""
    header = {**json.loads(read_header(path).model_dump_json()), **changes}
    header = {key: value for key, value in header.items() if value is not ...}
    save_file(load_file(path), path, metadata={HEADER_KEY: json.dumps(header)})
    return path


def test_weights_and_header_come_back_as_they_went(path, tmp_path):
    first = load_checkpoint(path)
    header = first.header.model_copy(update={"words": ("café", "火"), "example_prompts": ('say "hi"\n',)})
    save_checkpoint(tmp_path / "again.safetensors", first.weights, header)
    again = load_checkpoint(tmp_path / "again.safetensors")
    assert again.header == header == read_header(tmp_path / "again.safetensors")
    assert again.weights.keys() == first.weights.keys()
    assert all(torch.equal(again.weights[name], tensor) for name, tensor in first.weights.items())
    assert again.sha256 != first.sha256


def test_the_network_is_the_one_that_was_saved(path):
    checkpoint = load_checkpoint(path)
    x, t = torch.randn(2, 3, 3, 8, 8), torch.tensor([3, 70])
    with torch.no_grad():
        out = checkpoint.network()(x, t)
        assert torch.equal(out, load_checkpoint(path).network()(x, t))
    assert not checkpoint.network().training


def test_equal_weights_make_equal_files(path, tmp_path):
    checkpoint = load_checkpoint(path)
    shuffled = dict(reversed(checkpoint.weights.items()))
    save_checkpoint(tmp_path / "twin.safetensors", shuffled, checkpoint.header)
    assert load_checkpoint(tmp_path / "twin.safetensors").sha256 == checkpoint.sha256


def test_half_precision_weights_take_half_the_room_and_load_as_float32(path, tmp_path):
    checkpoint, small = load_checkpoint(path), tmp_path / "small.safetensors"
    save_checkpoint(small, as_bfloat16(checkpoint.weights), checkpoint.header)
    assert small.stat().st_size < 0.65 * path.stat().st_size  # of a network so small, names and header are a good part
    network = load_checkpoint(small).network()
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, checkpoint.weights[name], rtol=2**-8, atol=0)


def test_a_failed_save_leaves_the_old_file(path, monkeypatch):
    def full(tensors, file, metadata):
        file.write_bytes(b"half")
        raise SafetensorError("no space left")

    before, checkpoint = path.read_bytes(), load_checkpoint(path)
    monkeypatch.setattr("t2v.checkpoint.atomic.save_file", full)
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint(path, checkpoint.weights, checkpoint.header)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_weights_may_be_read_by_whom_any_new_file_may(path, tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


def test_only_the_ending_that_tells_what_it_is_can_be_written(path):
    with pytest.raises(CheckpointError, match=r"model.gif must end in .safetensors"):
        save_checkpoint(path.with_suffix(".gif"), {}, load_checkpoint(path).header)


# Which file is meant.


def test_a_file_a_run_and_a_step_can_be_named(path, run):
    assert resolve(path) == path
    assert load_checkpoint(run.path).header.step == 40
    assert load_checkpoint(run.checkpoints / "step-00000020").header.step == 20
    assert load_checkpoint(str(run.path)).path == run.steps()[1].ema


def test_a_checkpoint_is_named_without_saying_where_it_lies(path, run, monkeypatch):
    assert load_checkpoint(path).name == "model.safetensors"
    assert load_checkpoint(run.path).name == "gifs/step-00000040"
    assert load_checkpoint(run.steps()[0].weights).name == "gifs/step-00000020/weights.safetensors"
    monkeypatch.chdir(run.checkpoints)
    assert load_checkpoint("step-00000020").name == "gifs/step-00000020"
    monkeypatch.chdir("step-00000020")
    assert load_checkpoint("ema.safetensors").name == "gifs/step-00000020"


def test_a_damaged_step_is_passed_over_in_a_run_and_refused_by_itself(run):
    newest = run.steps()[1]
    newest.weights.write_bytes(newest.weights.read_bytes()[:-1])
    assert load_checkpoint(run.path).header.step == 20
    assert "step-00000040 is damaged or not wholly copied" in refusal(newest.path)
    (run.steps()[0].path / "manifest.json").unlink()
    assert "gifs holds no saved step, only damaged ones; name a .safetensors file" in refusal(run.path)


def test_a_folder_without_steps_is_refused(tmp_path):
    assert "holds no saved step; name a .safetensors file, a run folder" in refusal(tmp_path)


def test_a_missing_path_is_refused(tmp_path):
    assert "there is no checkpoint" in refusal(tmp_path / "nowhere.safetensors")


# What is not one of ours.


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\0" * 100, b"\xff" * 100, b"text\n" * 50])
def test_another_kind_of_file_is_refused(tmp_path, content):
    other = tmp_path / "other.safetensors"
    other.write_bytes(content)
    assert "is not a whole safetensors file" in refusal(other)
    assert "t2v import" not in refusal(other)


@pytest.mark.parametrize("ending", [".pt", ".pth", ".CKPT"])
def test_a_pickle_is_not_opened_but_told_how_to_bring_in(tmp_path, ending):
    torch.save({"x": torch.zeros(1)}, tmp_path / f"model{ending}")
    assert "bring it in with `t2v import`" in refusal(tmp_path / f"model{ending}")


@pytest.mark.parametrize("kept", [0.001, 0.5, 0.9999])
def test_a_truncated_file_is_refused(path, kept):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    assert "is not a whole safetensors file" in refusal(path)


def test_any_flipped_byte_of_the_header_is_refused_or_harmless(path):
    """Nothing but CheckpointError may come out, whatever the header says."""
    data = bytearray(path.read_bytes())
    end = 8 + int.from_bytes(data[:8], "little")
    refused = 0
    for place in [*range(8), *range(8, end, 211)]:
        flipped = bytearray(data)
        flipped[place] ^= 0x15
        path.write_bytes(flipped)
        try:
            load_checkpoint(path).network()
        except CheckpointError:
            refused += 1
    assert refused > 20


def test_safetensors_of_others_are_refused(tmp_path):
    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors", metadata={"format": "pt"})
    assert "is a safetensors file, but not one that t2v wrote" in refusal(tmp_path / "other.safetensors")


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 0, None, "1"])
def test_another_format_is_refused_before_its_settings_are_read(path, version):
    reason = refusal(with_header(path, format_version=version, a_new_key=1))
    assert f"has format {version}; this t2v reads format {FORMAT_VERSION}" in reason


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"recipe": ...}, "recipe"),
        ({"nonsense": 1}, "nonsense"),
        ({"frame_ms": 0}, "frame_ms"),
        ({"cond_dim": -1}, "cond_dim"),
        ({"cond_dim": 10**30}, "cond_dim"),
        ({"recipe": {"data": {"size": 63}}}, "size must be a multiple of 8"),
        ({"recipe": {"model": {"dim": 33}}}, "dim"),
        ({"recipe": {"model": {"dim_mults": [10**30]}}}, "dim_mults"),
    ],
)
def test_a_header_with_wrong_settings_is_refused_by_their_name(path, changes, reason):
    said = refusal(with_header(path, **changes))
    assert "the header of" in said and reason in said


@pytest.mark.parametrize("text", ["", "[]", "1", '{"format_version', "[" * 100_000, "1" * 5000])
def test_a_header_that_is_not_ours_is_refused(path, text):
    save_file(load_file(path), path, metadata={HEADER_KEY: text})
    assert "is not the JSON that t2v writes" in refusal(path)


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_weights_that_do_not_fit_their_settings_are_refused_by_name(path, change):
    checkpoint = load_checkpoint(path)
    weights = dict(checkpoint.weights)
    match change:
        case "missing":
            del weights["null_text"]
        case "extra":
            weights["stowaway"] = torch.zeros(1)
        case "shape":
            weights["null_text"] = torch.zeros(6)
    save_checkpoint(path, weights, checkpoint.header)
    with pytest.raises(CheckpointError, match=r"do not fit its own settings: '(null_text|stowaway)'"):
        load_checkpoint(path).network()


def test_settings_that_ask_for_terabytes_cost_nothing(path):
    """A network of 10^12 weights is compared with the file without being built."""
    huge = {"data": {"size": 64}, "model": {"dim": 1024, "dim_mults": [64] * 4, "attn_heads": 64, "attn_dim_head": 256}}
    with_header(path, recipe=huge)
    with pytest.raises(CheckpointError, match="do not fit its own settings"):
        load_checkpoint(path).network()


def test_the_header_says_who_wrote_it(make_checkpoint):
    header = Header.model_validate_json(read_header(make_checkpoint()).model_dump_json())
    assert (header.format_version, header.cond_dim, header.step) == (FORMAT_VERSION, None, 7)
