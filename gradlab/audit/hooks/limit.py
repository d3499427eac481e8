"""Hook for `--max-updates`: it ends the script after a number of updates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradlab.audit.hooks.untraced import untraced
from gradlab.audit.places import is_nested_step
from gradlab.wording import counted

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from gradlab.audit.hooks.patching import Patches
    from gradlab.audit.recording.recorder import Recorder


class UpdateLimit:
    """Ends the script by SystemExit(0) after its last allowed update, of all optimizers together.

    If the script catches that, the next step raises it again, before it changes anything. A step that calls another
    optimizer's step counts once. None is no limit.
    """

    def __init__(self, most: int | None) -> None:
        self.most = most
        self.updates = 0
        self.reached = False

    def notes(self) -> list[str]:
        """Return what the report says about the limit."""
        return [f"--max-updates ended the script after {counted(self.updates, 'update')}"] if self.reached else []

    def install(self, patches: Patches, _recorders: list[Recorder]) -> None:
        """Count steps after the hooks that record them."""
        if self.most is None:
            return
        from torch.optim import optimizer as hooks

        def on_start(_optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
            if self.reached and not is_nested_step():
                raise SystemExit(0)

        def on_end(_optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
            if is_nested_step():
                return
            self.updates += 1
            self.reached = self.most is not None and self.updates >= self.most
            if self.reached:
                raise SystemExit(0)

        patches.callback(hooks.register_optimizer_step_pre_hook(untraced(on_start)).remove)
        patches.callback(hooks.register_optimizer_step_post_hook(untraced(on_end)).remove)
