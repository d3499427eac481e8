"""Tasks: a model, its batches and its loss.

A task is made by a function of a seed (and options), called once a run after every generator has been seeded, so that
all modes of one seed start from the same weights and see the same batches. torch is imported inside the functions:
whoever only lists or checks tasks does not wait for it.
"""

from gradlab.tasks.builtin import BUILT_IN, digits, linear_4x3, noisy_line, straight_line
from gradlab.tasks.fairness import Start, draw_for_themselves, start_of, watched
from gradlab.tasks.heads import heads_in_turn
from gradlab.tasks.loading import TaskName, build, check_options, faults_of_options, find, load
from gradlab.tasks.sequences import echo, mixed_lengths
from gradlab.tasks.task import Minibatches, Task, mapped

__all__ = [
    "BUILT_IN",
    "Minibatches",
    "Start",
    "Task",
    "TaskName",
    "build",
    "check_options",
    "digits",
    "draw_for_themselves",
    "echo",
    "faults_of_options",
    "find",
    "heads_in_turn",
    "linear_4x3",
    "load",
    "mapped",
    "mixed_lengths",
    "noisy_line",
    "start_of",
    "straight_line",
    "watched",
]
