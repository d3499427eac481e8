"""The global random generators of Python, NumPy and torch: seeded, saved and restored."""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, torch and, if imported, NumPy; 0 ≤ seed < 2³²."""
    import torch

    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed)
    torch.manual_seed(seed)


def global_states() -> dict[str, Any]:
    """Return the states of the global generators of Python, NumPy and torch."""
    import torch

    cuda: Any = torch.cuda
    numpy = sys.modules.get("numpy")
    return {
        "python": random.getstate(),
        "numpy": numpy.random.get_state() if numpy else None,
        "torch": torch.get_rng_state(),
        # Querying the state would initialize CUDA, even in a CPU run.
        "cuda": cuda.get_rng_state_all() if cuda.is_initialized() else [],
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
    }


def set_global_states(state: Mapping[str, Any]) -> None:
    """Restore the states that `global_states` returned, in this process or another."""
    import torch

    random.setstate(state["python"])
    if state["numpy"] is not None:
        import numpy as np

        np.random.set_state(state["numpy"])  # the global generator: users draw from it
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    if state["mps"] is not None:
        torch.mps.set_rng_state(state["mps"])
