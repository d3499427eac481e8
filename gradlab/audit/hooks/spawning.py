"""Hook for torch.multiprocessing.spawn() and start_processes(): trainings that they start cannot be watched.

DataLoader workers, pools and other processes of `multiprocessing` don't use them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from gradlab.audit.hooks.untraced import untraced
from gradlab.audit.places import Place, user_location
from gradlab.errors import AuditError
from gradlab.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.optim import Optimizer

    from gradlab.audit.hooks.patching import Patches
    from gradlab.audit.recording.recorder import Recorder


class SpawnGuard:
    """Ends the script by SystemExit(2) before it spawns a training.

    If the script catches that, the next step raises it again, before it changes anything.
    After a step in this process, the script may spawn: the report then notes that these processes were not watched.

    Attributes:
        refused: the number of processes that the script wanted to start; 0 if it was not ended.
        place: the line that wanted to start them.
    """

    def __init__(self) -> None:
        self.refused = 0
        self.place: Place | None = None

    def raise_if_refused(self, command: Callable[[int], str]) -> None:
        """Raise if the script was ended; `command` returns what would work with this number of processes.

        Raises:
            AuditError: it was.
        """
        if not self.refused:
            return
        where = f"{self.place.file}:{self.place.line}" if self.place else "the script"
        raise AuditError(
            f"{where} starts {counted(self.refused, 'process')} with torch.multiprocessing, which the audit cannot "
            "watch. Train in this process instead. Or, if the script can take its rank from the variable RANK: "
            f"`{command(self.refused)}`"
        )

    def install(self, patches: Patches, recorders: list[Recorder]) -> None:
        """Guard start_processes(), which spawn() also calls."""
        from torch import multiprocessing
        from torch.optim import optimizer as hooks

        def guarded(start: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:  # pragma: no cover - it runs under another file name
                check(int(args[2] if len(args) > 2 else kwargs.get("nprocs", 1)))
                return start(*args, **kwargs)

            return call

        def check(processes: int) -> None:
            if any(recorder.history.updates for recorder in recorders):
                for recorder in recorders:
                    recorder.history.notes.append(f"processes that the script spawned were not watched: {processes}")
                return
            self.refused, self.place = processes, user_location()
            raise SystemExit(2)

        def on_start(_optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
            if self.refused:
                raise SystemExit(2)

        patches.callback(hooks.register_optimizer_step_pre_hook(untraced(on_start)).remove)
        for module in (multiprocessing, sys.modules["torch.multiprocessing.spawn"]):
            patches.replace(module, "start_processes", guarded)
