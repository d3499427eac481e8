"""The rank of this process, as a launcher such as torchrun has written it to the environment."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Rank(NamedTuple):
    """The place of this process among those that a launcher has started."""

    number: int
    world: int  # number of ranks
    local: int  # number among the ranks of this machine
    local_world: int
    key: str  # the same for the ranks of one machine and one start, and for no others

    @property
    def reports(self) -> bool:
        """Whether this rank reports for all of its machine."""
        return self.local == 0


ALONE = Rank(0, 1, 0, 1, "")


def rank_in(environment: Mapping[str, str]) -> Rank:
    """Return the rank that a launcher has written to the environment; ALONE without one, or with a single rank."""
    try:
        number, world = int(environment["RANK"]), int(environment["WORLD_SIZE"])
        local = int(environment.get("LOCAL_RANK", number))
        local_world = int(environment.get("LOCAL_WORLD_SIZE", environment.get("LOCAL_SIZE", world)))
    except (KeyError, ValueError):
        return ALONE
    return Rank(number, world, local, local_world, _key(environment)) if world > 1 else ALONE


def _key(environment: Mapping[str, str]) -> str:
    """Return what only the ranks of one machine and one start share.

    torchrun gives each rank a file below a new folder. Other launchers are known by their process.
    """
    if file := environment.get("TORCHELASTIC_ERROR_FILE"):
        parts = [str(Path(file).parent.parent)]
    else:
        parts = [str(os.getppid()), _start_of(os.getppid())]
        parts += [environment.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT")]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _start_of(process: int) -> str:
    """Return when a process started, in the system's ticks; "" if the system does not say."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    return ""
