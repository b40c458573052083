"""Classifier-free guidance asks the network exactly once."""

import pytest
import torch

from t2v.diffusion.guidance import guide

CLIPS = torch.arange(2.0).reshape(2, 1, 1, 1, 1)
T = torch.tensor([3, 7])


def text(*values, is_null=False):
    pooled = torch.tensor(values).reshape(-1, 1)
    return {"pooled": pooled, "is_null": torch.full((len(values),), is_null)}


class Recorder:
    """Answers with the clip, 100 t and the caption's number, which is -1 for the null text."""

    def __init__(self):
        self.calls = []

    def __call__(self, x_t, t, given):
        self.calls.append((x_t, t, given))
        heard = (
            -1 if given is None else torch.where(given["is_null"], -1, given["pooled"][:, 0]).reshape(-1, 1, 1, 1, 1)
        )
        return x_t + 100 * t.reshape(-1, 1, 1, 1, 1) + heard


PLAIN = CLIPS + 100 * T.reshape(-1, 1, 1, 1, 1)
CAPTION = torch.tensor([10.0, 20.0]).reshape(-1, 1, 1, 1, 1)


@pytest.mark.parametrize("given, scale", [(text(10.0, 20.0), 1.0), (None, 1.0), (None, 5.0)])
def test_nothing_to_guide_by_is_one_plain_pass(given, scale):
    network = Recorder()
    output = guide(network, CLIPS, T, given, guidance_scale=scale)
    assert len(network.calls) == 1
    assert network.calls[0][0] is CLIPS
    assert network.calls[0][2] is given
    assert output.equal(PLAIN + (-1 if given is None else CAPTION))


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0, 7.5])
def test_guidance_moves_away_from_the_null_text_in_one_batched_pass(scale):
    network = Recorder()
    output = guide(network, CLIPS, T, text(10.0, 20.0), guidance_scale=scale)
    assert [len(call[0]) for call in network.calls] == [4]
    torch.testing.assert_close(output, PLAIN + -1 + scale * (CAPTION + 1))


def test_a_negative_text_takes_the_null_texts_place():
    network = Recorder()
    output = guide(network, CLIPS, T, text(10.0, 20.0), guidance_scale=3.0, negative=text(4.0, 5.0))
    away = torch.tensor([4.0, 5.0]).reshape(-1, 1, 1, 1, 1)
    assert len(network.calls) == 1
    torch.testing.assert_close(output, PLAIN + away + 3 * (CAPTION - away))


def test_a_negative_text_alone_steers_from_it_towards_no_text():
    network = Recorder()
    output = guide(network, CLIPS, T, None, guidance_scale=3.0, negative=text(4.0, 5.0))
    away = torch.tensor([4.0, 5.0]).reshape(-1, 1, 1, 1, 1)
    assert len(network.calls) == 1
    torch.testing.assert_close(output, PLAIN + away + 3 * (-1 - away))


@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_answers_in_half_precision_are_combined_in_that_of_the_clips(scale):
    def network(x_t, t, given):
        heard = torch.where(given["is_null"], 1.0, given["pooled"][:, 0]).reshape(-1, 1, 1, 1, 1)
        return (torch.zeros_like(x_t) + heard).bfloat16()

    output = guide(network, CLIPS, T, text(1.5, 2.0), guidance_scale=scale)
    assert output.dtype == torch.float32
    assert output.flatten().tolist() == [1 + scale * 0.5, 1 + scale * 1.0]
    # bfloat16 itself would round a combination such as this one.
    fine = guide(network, CLIPS, T, text(1.0078125, 2.0), guidance_scale=scale)
    assert fine.flatten()[0] == 1 + scale * 0.0078125


def test_the_texts_passed_in_are_left_as_they_are():
    given = text(10.0, 20.0)
    guide(Recorder(), CLIPS, T, given, guidance_scale=3.0)
    assert not given["is_null"].any()
