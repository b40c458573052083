"""Clips computed side by side: the same answers and gradients, and the same bits each time."""

import subprocess
import sys

import psutil
import pytest
import torch
from torch import Tensor, nn

from t2v.errors import RunError
from t2v.model import Unet3D
from t2v.training.clip_processes import ClipProcesses, Text, best_shares


def network(dtype: torch.dtype = torch.float64, *, seed: int = 0) -> Unet3D:
    torch.manual_seed(seed)
    return Unet3D(8, dim_mults=(1, 2), cond_dim=4, attn_heads=2, attn_dim_head=8).to(dtype)


def clips(number: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(number, 3, 2, 8, 8, generator=draw).to(dtype)
    text = {"pooled": torch.randn(number, 4, generator=draw).to(dtype), "is_null": torch.arange(number) == 1}
    return x, torch.arange(number) * 100, text


def answers(answer: nn.Module | ClipProcesses, unet: Unet3D, x: Tensor, t: Tensor, text: Text) -> list[Tensor]:
    out = answer(x, t, text)
    loss = (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum()
    return [out.detach(), *torch.autograd.grad(loss, list(unet.parameters()), allow_unused=True)]


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_answers_and_gradients_are_those_of_one_pass(number: int) -> None:
    unet, given = network(), clips(number)
    processes = ClipProcesses(unet, precision="fp32", num_shares=2, num_cores=2)
    for ours, true in zip(answers(processes, unet, *given), answers(unet, unet, *given), strict=True):
        torch.testing.assert_close(ours, true)


def test_what_no_clip_uses_gets_no_gradient() -> None:
    unet = network()
    unet.spare = nn.Parameter(torch.ones(3))
    processes = ClipProcesses(unet, precision="fp32", num_shares=2, num_cores=2)
    _, *gradients = answers(processes, unet, *clips(2))
    unused = [name for (name, _), each in zip(unet.named_parameters(), gradients, strict=True) if each is None]
    assert unused == ["spare"]


def test_weights_that_have_changed_are_those_that_count() -> None:
    unet, given = network(), clips(3)
    processes = ClipProcesses(unet, precision="fp32", num_shares=2, num_cores=2)
    answers(processes, unet, *given)
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.mul_(1.1)
    for ours, true in zip(answers(processes, unet, *given), answers(unet, unet, *given), strict=True):
        torch.testing.assert_close(ours, true)


def test_networks_take_turns_with_the_same_processes() -> None:
    one, other, given = network(), network(seed=1), clips(2)
    pair = [ClipProcesses(unet, precision="fp32", num_shares=2, num_cores=2) for unet in (one, other)]
    for unet, processes in [(one, pair[0]), (other, pair[1]), (one, pair[0])]:
        for ours, true in zip(answers(processes, unet, *given), answers(unet, unet, *given), strict=True):
            torch.testing.assert_close(ours, true)


def test_the_precision_is_that_of_the_run() -> None:
    unet, given = network(torch.float32), clips(2, torch.float32)
    processes = ClipProcesses(unet, precision="bf16", num_shares=2, num_cores=2)
    with torch.no_grad():
        ours, exact = processes(*given), unet(*given)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(ours, unet(*given))
    assert not torch.allclose(ours.float(), exact, rtol=1e-4)


def test_every_pass_gives_the_same_bits() -> None:
    unet, given = network(torch.float32), clips(4, torch.float32)
    processes = ClipProcesses(unet, precision="fp32", num_shares=2, num_cores=2)
    first = answers(processes, unet, *given)
    for _ in range(5):
        for one, again in zip(first, answers(processes, unet, *given), strict=True):
            assert torch.equal(one, again)


def test_what_goes_wrong_in_a_process_is_told() -> None:
    unet = network()
    x, t, text = clips(2)
    with pytest.raises(ValueError, match="channels"):
        ClipProcesses(unet, precision="fp32", num_shares=2, num_cores=2)(x[:, :2], t, text)


@pytest.mark.parametrize(
    "num_clips, num_cores, shares",
    [(8, 2, 2), (1, 8, 1), (4, 8, 4), (3, 2, 1), (10, 8, 2), (8, 1, 1), (16, 8, 8)],
)
def test_clips_are_split_so_that_all_cores_end_together(num_clips: int, num_cores: int, shares: int) -> None:
    assert best_shares(num_clips=num_clips, num_cores=num_cores) == shares


def test_cores_are_shared_among_the_processes() -> None:
    unet = network()
    answers(ClipProcesses(unet, precision="fp32", num_shares=2, num_cores=6), unet, *clips(2))
    started = psutil.Process().children()[-2:]
    assert [process.cmdline()[-2:] for process in started] == [["0", "3"], ["1", "3"]]
    assert all(process.environ()["OMP_NUM_THREADS"] == "3" for process in started)


def test_a_process_that_the_system_ends_is_told_and_followed_by_another() -> None:
    unet, given = network(), clips(2)
    processes = ClipProcesses(unet, precision="fp32", num_shares=2, num_cores=2)
    answers(processes, unet, *given)
    psutil.Process().children()[-1].kill()
    with pytest.raises(RunError, match="memory is short"):
        answers(processes, unet, *given)
    again = ClipProcesses(unet, precision="fp32", num_shares=2, num_cores=2)
    answers(again, unet, *given)


@pytest.mark.slow
def test_no_process_outlives_the_one_that_started_it() -> None:
    program = """
import sys, torch
from t2v.model import Unet3D
from t2v.training.clip_processes import ClipProcesses
processes = ClipProcesses(Unet3D(8, dim_mults=(1,)), precision="fp32", num_shares=2, num_cores=2)
processes(torch.zeros(2, 3, 2, 8, 8), torch.zeros(2), None)
print("computed", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        assert started.stdout.readline() == b"computed\n"
        children = psutil.Process(started.pid).children()
        assert len(children) == 2
        started.kill()
    gone, left = psutil.wait_procs(children, timeout=60)
    assert len(gone) == 2 and not left
