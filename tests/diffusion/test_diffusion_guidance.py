"""Classifier-free guidance asks the network exactly once."""

import pytest
import torch

from t2v.diffusion.gaussian import GaussianDiffusion
from t2v.diffusion.guidance import Guidance, guide, null_text
from t2v.diffusion.schedule import make_schedule

CLIPS = torch.arange(2.0).reshape(2, 1, 1, 1, 1)
T = torch.tensor([3, 7])


def text(*values, is_null=False):
    pooled = torch.tensor(values).reshape(-1, 1)
    return {"pooled": pooled, "is_null": torch.full((len(values),), is_null)}


class Recorder:
    """Answers with the clip, 100 t and the caption's number, which is -1 for the null text."""

    def __init__(self, offset=0):
        self.calls = []
        self.offset = offset

    def __call__(self, x_t, t, given):
        self.calls.append((x_t, t, given))
        heard = (
            -1 if given is None else torch.where(given["is_null"], -1, given["pooled"][:, 0]).reshape(-1, 1, 1, 1, 1)
        )
        return x_t + 100 * t.reshape(-1, 1, 1, 1, 1) + heard + self.offset


PLAIN = CLIPS + 100 * T.reshape(-1, 1, 1, 1, 1)
CAPTION = torch.tensor([10.0, 20.0]).reshape(-1, 1, 1, 1, 1)


@pytest.mark.parametrize("given, scale", [(text(10.0, 20.0), 1.0), (None, 1.0), (None, 5.0)])
def test_nothing_to_guide_by_is_one_plain_pass(given, scale):
    network = Recorder()
    output = guide(network, CLIPS, T, given, scale=scale)
    assert len(network.calls) == 1
    assert network.calls[0][0] is CLIPS
    assert network.calls[0][2] is given
    assert output.equal(PLAIN + (-1 if given is None else CAPTION))


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0, 7.5])
def test_guidance_moves_away_from_the_null_text_in_one_batched_pass(scale):
    network = Recorder()
    output = guide(network, CLIPS, T, text(10.0, 20.0), scale=scale)
    assert [len(call[0]) for call in network.calls] == [4]
    torch.testing.assert_close(output, PLAIN + -1 + scale * (CAPTION + 1))


def test_a_negative_text_takes_the_null_texts_place():
    network = Recorder()
    output = guide(network, CLIPS, T, text(10.0, 20.0), scale=3.0, negative=text(4.0, 5.0))
    away = torch.tensor([4.0, 5.0]).reshape(-1, 1, 1, 1, 1)
    assert len(network.calls) == 1
    torch.testing.assert_close(output, PLAIN + away + 3 * (CAPTION - away))


def test_a_negative_text_alone_steers_from_it_towards_no_text():
    network = Recorder()
    output = guide(network, CLIPS, T, None, scale=3.0, negative=text(4.0, 5.0))
    away = torch.tensor([4.0, 5.0]).reshape(-1, 1, 1, 1, 1)
    assert len(network.calls) == 1
    torch.testing.assert_close(output, PLAIN + away + 3 * (-1 - away))


@pytest.mark.parametrize("given", [text(10.0, 20.0), None])
def test_a_weaker_network_is_moved_away_from(given):
    """Asked once for the same text, its answer is 6 off; guidance goes twice that to the other side."""
    network, weaker = Recorder(), Recorder(offset=6)
    output = guide(network, CLIPS, T, given, scale=3.0, weaker=weaker)
    assert [len(call[0]) for call in network.calls + weaker.calls] == [2, 2]
    assert network.calls[0][2] is weaker.calls[0][2] is given
    torch.testing.assert_close(output, PLAIN + (-1 if given is None else CAPTION) - 2 * 6)


def test_a_weaker_network_is_not_asked_where_nothing_is_guided():
    weaker = Recorder()
    guide(Recorder(), CLIPS, T, text(10.0, 20.0), scale=1.0, weaker=weaker)
    assert weaker.calls == []


@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_answers_in_half_precision_are_combined_in_that_of_the_clips(scale):
    def network(x_t, t, given):
        heard = torch.where(given["is_null"], 1.0, given["pooled"][:, 0]).reshape(-1, 1, 1, 1, 1)
        return (torch.zeros_like(x_t) + heard).bfloat16()

    output = guide(network, CLIPS, T, text(1.5, 2.0), scale=scale)
    assert output.dtype == torch.float32
    assert output.flatten().tolist() == [1 + scale * 0.5, 1 + scale * 1.0]
    # bfloat16 itself would round a combination such as this one.
    fine = guide(network, CLIPS, T, text(1.0078125, 2.0), scale=scale)
    assert fine.flatten()[0] == 1 + scale * 0.0078125


def test_the_texts_passed_in_are_left_as_they_are():
    given = text(10.0, 20.0)
    guide(Recorder(), CLIPS, T, given, scale=3.0)
    assert not given["is_null"].any()
    assert null_text(given)["is_null"].all() and not given["is_null"].any()


def textured(x_t, t, given):
    """Answers whose spread grows with the caption's number."""
    heard = torch.where(given["is_null"], 1.0, given["pooled"][:, 0]).reshape(-1, 1, 1, 1, 1)
    return heard * x_t


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_rescaling_takes_back_a_share_of_the_spread_that_guidance_adds(share):
    """Answers of 2 and 3 times the clip, guided by 4 from once the clip: 5 and 9 times. Lin et al. 2024, eq. 15, 16."""
    x_t = torch.randn(2, 3, 2, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    output = guide(textured, x_t, T, text(2.0, 3.0), scale=4.0, rescale=share)
    times = [share * plain + (1 - share) * guided for plain, guided in ((2, 5), (3, 9))]
    torch.testing.assert_close(output, torch.tensor(times).double().reshape(-1, 1, 1, 1, 1) * x_t)


@pytest.mark.parametrize("weaker", [None, lambda x_t, t, given: -textured(x_t, t, given)])
@pytest.mark.parametrize("rescale", [0.0, 0.5])
def test_a_learned_variance_is_that_of_the_plain_answer(rescale, weaker):
    """The half that says the variance is neither guided nor rescaled; the other is as if it stood alone."""
    x_t = torch.randn(2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def network(x_t, t, given):
        said = textured(x_t, t, given)
        return torch.cat((said, said + 0.5), dim=1)

    given, options = text(2.0, 3.0), {"scale": 4.0, "rescale": rescale, "weaker": weaker}
    output = guide(network, x_t, T, given, **options)
    assert output[:, 3:].equal(network(x_t, T, given)[:, 3:])
    torch.testing.assert_close(output[:, :3], guide(textured, x_t, T, given, **options))


@pytest.mark.parametrize(
    "scale, expected",
    [
        (3.0, [3, 3, 3, 3, 3]),
        (2, [2, 2, 2, 2, 2]),
        ((1.0, 5.0), [1, 2, 3, 4, 5]),
        ((0.0, 8.0, 4.0), [0, 4, 8, 6, 4]),
        ((7.0,), [7, 7, 7, 7, 7]),
    ],
)
def test_a_scale_may_change_over_the_walk(scale, expected):
    guidance = Guidance(scale=scale)
    assert [guidance.scale_at(done=done / 4, sigma=0.5) for done in range(5)] == pytest.approx(expected)


def test_outside_its_interval_guidance_is_off():
    guidance = Guidance(scale=4.0, low=0.2, high=0.7)
    assert [guidance.scale_at(done=0.5, sigma=sigma) for sigma in (0.1, 0.2, 0.5, 0.7, 0.8)] == [1, 4, 4, 4, 1]


def scales_of_a_walk(guidance, **options):
    """What each step was guided by, read from the answers to text 1 and to no text, which are 1 and 0."""

    def network(x_t, t, given):
        return torch.zeros_like(x_t) + (~given["is_null"]).reshape(-1, 1, 1, 1, 1)

    diffusion = GaussianDiffusion(schedule=make_schedule("cosine", 5), prediction="x0")
    x_T = torch.zeros(1, 1, 1, 2, 2)
    steps = diffusion.sample(
        network,
        x_T,
        noise=lambda step: x_T,
        text=text(1.0),
        guidance=guidance,
        keep_in_range=lambda x0: x0,
        **options,
    )
    return [step.x0.mean().item() for step in steps]


def test_a_walk_takes_its_scales_from_its_first_step_to_its_last():
    assert scales_of_a_walk(Guidance(scale=(2.0, 6.0))) == pytest.approx([2, 3, 4, 5, 6])
    # Also a walk that starts later.
    assert scales_of_a_walk(Guidance(scale=(2.0, 6.0)), start=2) == pytest.approx([2, 4, 6])
    assert scales_of_a_walk(Guidance(scale=(2.0, 6.0)), start=0) == pytest.approx([2])


def test_a_walk_is_guided_only_within_the_interval():
    sigma = make_schedule("cosine", 5).level(torch.tensor([4, 3, 2, 1, 0])).sigma.tolist()
    guidance = Guidance(scale=3.0, low=sigma[3] - 0.01, high=sigma[1] + 0.01)
    assert scales_of_a_walk(guidance) == [1, 3, 3, 3, 1]


def test_outside_the_interval_the_network_is_asked_for_one_batch_only():
    network = Recorder()
    diffusion = GaussianDiffusion(schedule=make_schedule("cosine", 5), prediction="x0")
    sigma = float(diffusion.schedule.level(2).sigma)
    list(
        diffusion.sample(
            network, CLIPS, noise=lambda step: CLIPS, text=text(1.0, 2.0), guidance=Guidance(scale=2.0, high=sigma)
        )
    )
    assert [len(call[0]) for call in network.calls] == [2, 2, 4, 4, 4]
