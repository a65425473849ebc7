"""What makes the processor's arithmetic the same from one run to the next."""

from __future__ import annotations

import os


def choose_repeatable_kernels() -> None:
    """Ask Intel MKL, which torch multiplies matrices with, for kernels whose sums do not depend on scheduling.

    It is read at MKL's first call of a process, so that it must be said before; `MKL_CBWR` of the environment wins.
    """
    os.environ.setdefault("MKL_CBWR", "AUTO")


def settle_threads() -> None:
    """Fix the number of threads of this process, and let one thread alone make MKL's first call.

    MKL may otherwise change the number of threads between calls, and two threads that call it first at once may
    choose different kernels. Either changes the last bit of a sum.
    """
    import torch

    torch.set_num_threads(torch.get_num_threads())
    torch.exp(torch.ones(8))
    torch.ones(8, 8) @ torch.ones(8, 8)
