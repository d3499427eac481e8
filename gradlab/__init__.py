"""gradlab shows what should happen to `.grad` between two optimizer steps.

    import gradlab
    result = gradlab.run("diverging_loss")
    result
    result["no_zero_grad"].plot(x="step")
    gradlab.run(my_task, modes=["zero_grad", "no_zero_grad"], lr=0.1, seeds=3)

A notebook shows `result` as picture and table. `my_task` is a function of a seed that returns a `gradlab.Task`.
`sweep` trains a grid of runs, and `compare` runs your own script under several modes. `audit.watch()` finds mistakes
in your own training loop.

Names are imported on first use, so `import gradlab` is fast.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradlab import audit as audit
    from gradlab import modes as modes
    from gradlab import plotting as plotting
    from gradlab import tasks as tasks
    from gradlab import verify as verify
    from gradlab.analysis import curves as curves
    from gradlab.analysis import theory as theory
    from gradlab.api.functions import compare as compare
    from gradlab.api.functions import run as run
    from gradlab.api.functions import sweep as sweep
    from gradlab.engines.loop import train as train
    from gradlab.errors import GradlabError as GradlabError
    from gradlab.modes import Mode as Mode
    from gradlab.rows import Row as Row
    from gradlab.tasks.task import Task as Task

__version__ = "0.1.0"

_PLACES = {
    "GradlabError": "gradlab.errors:GradlabError",
    "Mode": "gradlab.modes:Mode",
    "Row": "gradlab.rows:Row",
    "Task": "gradlab.tasks.task:Task",
    "audit": "gradlab.audit",
    "compare": "gradlab.api.functions:compare",
    "curves": "gradlab.analysis.curves",
    "modes": "gradlab.modes",
    "plotting": "gradlab.plotting",
    "run": "gradlab.api.functions:run",
    "sweep": "gradlab.api.functions:sweep",
    "tasks": "gradlab.tasks",
    "theory": "gradlab.analysis.theory",
    "train": "gradlab.engines.loop:train",
    "verify": "gradlab.verify",
}
__all__ = [
    "GradlabError",
    "Mode",
    "Row",
    "Task",
    "__version__",
    "audit",
    "compare",
    "curves",
    "modes",
    "plotting",
    "run",
    "sweep",
    "tasks",
    "theory",
    "train",
    "verify",
]


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module 'gradlab' has no attribute '{name}'")
    from pkgutil import resolve_name

    return resolve_name(_PLACES[name])


def __dir__() -> list[str]:
    return sorted(__all__)
