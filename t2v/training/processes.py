"""The processes of one run that torchrun started: how they meet, agree and part.

On GPUs `accelerate launch` starts them too; with --cpu it starts one, however many it is asked for, unless MPI does.
"""

from importlib import import_module
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list
from torch import nn


def meet_processes(device: torch.device) -> None:
    """Join the processes that this one was started with, if there are any."""
    if torch.distributed.is_available():
        # Imported later, its functions would take the group as their default, and keep it and its threads for ever.
        import_module("torch.distributed.nn.functional")
    PartialState(cpu=device.type == "cpu")


def make_accelerator(device: torch.device) -> Accelerator:
    """The engine of a run; it takes the processes and the device that its launcher gave, if any."""
    # Precision is the loop's own: asked for fp16 on a CPU, accelerate 1.15 computes in float32 and says nothing, and
    # its loss scale would be out of the saved state's reach.
    return Accelerator(mixed_precision="no", cpu=device.type == "cpu", rng_types=[])


def agreed(value: Any) -> Any:
    """The main process's value in every process: what a clock decided must not differ between them."""
    values = [value]
    broadcast_object_list(values)
    return values[0]


def part_processes(accelerator: Accelerator, network: nn.Module) -> nn.Module:
    """Leave the other processes, if there are any. Returns the network as it was before it was prepared for them.

    Gloo's threads let go of what they gathered some time after it was handed over. One that is late, and comes to
    Python's lock when the interpreter is ending, aborts the process. They are joined where the group is freed, for
    which torch's own farewell is not enough: the wrapped network holds the group too, so the caller keeps it no more.
    """
    alone: nn.Module = accelerator.unwrap_model(network)
    accelerator.free_memory()
    accelerator.end_training()
    return alone
