"""Clips computed side by side: the same answers and gradients, and the same bits each time."""

import pytest
import torch
from torch import Tensor

from t2v.model import Unet3D
from t2v.training.clip_threads import Answer, ClipThreads, Text, best_shares


def network(dtype: torch.dtype = torch.float64) -> Unet3D:
    torch.manual_seed(0)
    return Unet3D(8, dim_mults=(1, 2), cond_dim=4, attn_heads=2, attn_dim_head=8).to(dtype)


def clips(number: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(number, 3, 2, 8, 8, generator=draw).to(dtype)
    text = {"pooled": torch.randn(number, 4, generator=draw).to(dtype), "is_null": torch.arange(number) == 1}
    return x, torch.arange(number) * 100, text


def answers(answer: Answer, unet: Unet3D, x: Tensor, t: Tensor, text: Text) -> list[Tensor]:
    out = answer(x, t, text)
    loss = (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum()
    return [out.detach(), *torch.autograd.grad(loss, list(unet.parameters()), allow_unused=True)]


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_answers_and_gradients_are_those_of_one_pass(number: int) -> None:
    unet, given = network(), clips(number)
    threads = ClipThreads(unet, unet, num_shares=2, num_cores=2)
    for ours, true in zip(answers(threads, unet, *given), answers(unet, unet, *given), strict=True):
        torch.testing.assert_close(ours, true)


def test_what_no_clip_uses_gets_no_gradient() -> None:
    unet = network()
    x, t, _ = clips(2)
    threads = ClipThreads(
        unet, lambda *given: unet(*given[:2], None).detach() * unet.final_conv.bias[0], num_shares=2, num_cores=2
    )
    _, *gradients = answers(threads, unet, x, t, None)
    used = [name for (name, _), each in zip(unet.named_parameters(), gradients, strict=True) if each is not None]
    assert used == ["final_conv.bias"]


def test_every_pass_gives_the_same_bits() -> None:
    # The layer norm's gradient is summed by as many parts as there are threads, which torch sets anew in each thread.
    unet, given = network(torch.float32), clips(4, torch.float32)
    threads = ClipThreads(unet, unet, num_shares=2, num_cores=2)
    first = answers(threads, unet, *given)
    for _ in range(5):
        for one, again in zip(first, answers(threads, unet, *given), strict=True):
            assert torch.equal(one, again)


def test_the_caller_keeps_its_number_of_threads() -> None:
    before = torch.get_num_threads()
    unet = network()
    answers(ClipThreads(unet, unet, num_shares=2, num_cores=2), unet, *clips(2))
    assert torch.get_num_threads() == before


def test_what_goes_wrong_in_a_thread_is_told() -> None:
    unet = network()
    x, t, text = clips(2)
    with pytest.raises(ValueError, match="channels"):
        ClipThreads(unet, unet, num_shares=2, num_cores=2)(x[:, :2], t, text)


@pytest.mark.parametrize(
    "num_clips, num_cores, shares",
    [(8, 2, 2), (1, 8, 1), (4, 8, 4), (3, 2, 1), (10, 8, 2), (8, 1, 1), (16, 8, 8)],
)
def test_clips_are_split_so_that_all_cores_end_together(num_clips: int, num_cores: int, shares: int) -> None:
    assert best_shares(num_clips=num_clips, num_cores=num_cores) == shares


def test_cores_are_shared_among_the_shares() -> None:
    unet, seen = network(), []

    def answer(x: Tensor, t: Tensor, text: Text) -> Tensor:
        seen.append(torch.get_num_threads())
        return unet(x, t, text)

    answers(ClipThreads(unet, answer, num_shares=2, num_cores=6), unet, *clips(2))
    assert seen == [3, 3]
