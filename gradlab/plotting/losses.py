"""Whether the losses of several runs can be compared by their height."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab.plotting.differences import flattened

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradlab.store import RunRecord


def different_losses(records: Iterable[RunRecord]) -> str:
    """Return a warning if the runs have different losses, or tasks that may have; "" if they have one."""
    settings = [flattened(record.settings) for record in records]
    losses = {each["task_options.loss"] for each in settings if "task_options.loss" in each}
    if len(losses) > 1:
        return f"different losses on one axis: {', '.join(sorted(losses))}"
    tasks = {each["task"] for each in settings if "task" in each}
    return f"different tasks on one axis: {', '.join(sorted(tasks))}" if len(tasks) > 1 else ""
