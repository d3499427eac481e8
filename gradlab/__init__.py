"""gradlab measures what should happen to `.grad` between two optimizer steps.

Names are imported when they are first used, so that `import gradlab` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradlab import audit as audit
    from gradlab.errors import GradlabError as GradlabError
    from gradlab.modes import Mode as Mode
    from gradlab.rows import Row as Row
    from gradlab.tasks.task import Task as Task
    from gradlab.training import train as train

__version__ = "0.1.0"

_HOME = {
    "GradlabError": "gradlab.errors",
    "Mode": "gradlab.modes",
    "Row": "gradlab.rows",
    "Task": "gradlab.tasks.task",
    "train": "gradlab.training",
}
__all__ = ["GradlabError", "Mode", "Row", "Task", "__version__", "audit", "train"]


def __getattr__(name: str) -> object:
    if name == "audit":  # a package of its own: gradlab.audit.watch()
        return import_module("gradlab.audit")
    if name not in _HOME:
        raise AttributeError(f"module 'gradlab' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)
