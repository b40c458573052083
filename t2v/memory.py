"""How this process handles memory that it will need again."""

import ctypes
import os

# Numbers of glibc's mallopt(3), and what each is set to: no block is mapped by itself, next to nothing is given back,
# and threads share what is freed (else those of a page would map their tensors anew all the same).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
MOST = 2**31 - 1
OPTIONS = {M_MMAP_THRESHOLD: MOST, M_TRIM_THRESHOLD: MOST, M_ARENA_MAX: 1}
CHOSEN_OUTSIDE = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Let the C library keep what tensors free for the next ones; says whether it does. Call it before torch is loaded.

    By default glibc maps each large tensor anew and the system clears its pages one by one, which took up to half of a
    forward pass on a virtual machine. Where the environment says how memory is to be handled, or the C library is
    another one, nothing changes.
    """
    if any(name in os.environ for name in CHOSEN_OUTSIDE):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc; on Windows not even a C library of that kind
        return False
    return all(mallopt(option, value) == 1 for option, value in OPTIONS.items())
