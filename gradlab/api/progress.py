"""Progress that suits the place: one updating output in a notebook, a bar on a terminal, lines of text elsewhere."""

from __future__ import annotations

import sys
import time
from html import escape
from typing import TYPE_CHECKING, Any

from gradlab.api import showing
from gradlab.errors import GradlabError, printable
from gradlab.terminal.messages import progress_display
from gradlab.terminal.progress import RunProgress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradlab.analysis.results import Result
    from gradlab.runs import RunPlan
    from gradlab.terminal.progress import Display, Status

UPDATE_EVERY = 0.2  # seconds between two updates of a notebook's output
DRAW_EVERY = 0.5  # seconds between two pictures, at least
DRAW_SHARE = 4  # times the duration of the last picture, until the next: so they cost at most a fifth of the time


def is_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    if "IPython" not in sys.modules:
        return False
    shell = sys.modules["IPython"].get_ipython()
    return getattr(shell, "kernel", None) is not None


def place_display() -> Display:
    """Return the display that suits the place."""
    return NotebookDisplay() if is_notebook() else progress_display()


class NotebookDisplay:
    """One output of a notebook: messages and a bar, and at the end the messages and the duration.

    Attributes:
        picture: a picture as HTML, shown below the bar until the end.
    """

    def __init__(self) -> None:
        self.picture = ""
        self._messages: list[str] = []
        self._bar = self._text = ""
        self._handle: Any = None
        self._due = 0.0
        self._start = time.monotonic()

    def begin(self, status: Status) -> None:
        """Show the status at once."""
        self._due = 0.0
        self.update(status)

    def update(self, status: Status) -> None:
        """Show the status, at most five times per second."""
        if (now := time.monotonic()) < self._due:
            return
        self._due = now + UPDATE_EVERY
        share = "" if not status.total else f' value="{min(1.0, status.done / status.total):.3f}"'
        self._text = "  ".join([status.what, *status.measured])
        self._bar = f"<div><progress{share}></progress> <code>{escape(self._text)}</code></div>"
        self._show()

    def log(self, text: str) -> None:
        """Show nothing: the table at the end has these lines."""

    def print(self, text: str) -> None:
        """Show a message, which stays."""
        self._messages.append(printable(text))
        self._show()

    def close(self) -> None:
        """Replace the bar and the picture by the duration."""
        if self._handle is not None:
            self._text = f"{time.monotonic() - self._start:.1f} s"
            self._bar, self.picture = f"<div><small>{self._text}</small></div>", ""
            self._show()

    def _show(self) -> None:
        from IPython.display import display

        messages = "".join(f"<div>{escape(each)}</div>" for each in self._messages)
        content = {
            "text/plain": "\n".join([*self._messages, self._text]),
            "text/html": messages + self._bar + self.picture,
        }
        if self._handle is None:
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)


class LiveProgress(RunProgress):
    """Progress with a picture of the runs so far, in a notebook."""

    def __init__(self, display: NotebookDisplay, plans: Sequence[RunPlan], *, fresh: bool) -> None:
        super().__init__(display, len(plans))
        self._notebook = display
        self._begun = [] if fresh else [plan for plan in plans if plan.done]
        self._plans = plans
        self._due = time.monotonic() + DRAW_EVERY

    def on_start(self, title: str, runs: int, steps: int | None = None, **done: int) -> None:
        """Show the start of a run or stack."""
        self._begun += [plan for plan in self._plans if runs > 1 or plan.title == title]
        super().on_start(title, runs, steps, **done)

    def on_progress(self, steps: int, done_runs: float = 0.0) -> None:
        """Show the number of steps, and the picture if it is due."""
        self._draw_if_due()
        super().on_progress(steps, done_runs)

    def on_end(self, result: Result) -> None:
        """Count the run, and show the picture if it is due."""
        super().on_end(result)
        if not result.cached:
            self._draw_if_due()

    def _draw_if_due(self) -> None:
        from gradlab import plotting

        if (start := time.monotonic()) < self._due:
            return
        drawn = []
        for plan in dict.fromkeys(plan.folder for plan in self._begun):
            try:
                drawn.append((plan.read(), plan.rows().rows))
            except GradlabError:  # not written yet
                continue
        if any(rows for _, rows in drawn):
            self._notebook.picture = showing.picture_html(plotting.draw(drawn), "Loss curves so far")
        now = time.monotonic()
        self._due = now + max(DRAW_EVERY, DRAW_SHARE * (now - start))
