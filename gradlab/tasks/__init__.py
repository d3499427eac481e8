"""Tasks: a model, its batches and its loss.

A function of a seed and options makes the task. It is called once per run, after all generators are seeded. So all
modes of a seed start from the same weights and see the same batches. The functions import torch themselves, so listing
and checking tasks is fast.
"""

from gradlab.tasks.builtin import (
    BUILT_IN,
    digits,
    echo,
    heads_in_turn,
    linear_4x3,
    mixed_lengths,
    noisy_line,
    straight_line,
    two_weights,
)
from gradlab.tasks.fairness import Start, start_of, unverified, uses_global_generators, verified
from gradlab.tasks.given import given_task
from gradlab.tasks.loading import TaskName, build, check_options, faults_of_options, find, load
from gradlab.tasks.sources import hash_of_source
from gradlab.tasks.task import Minibatches, Task, epoch_length, map_batch

__all__ = [
    "BUILT_IN",
    "Minibatches",
    "Start",
    "Task",
    "TaskName",
    "build",
    "check_options",
    "digits",
    "echo",
    "epoch_length",
    "faults_of_options",
    "find",
    "given_task",
    "hash_of_source",
    "heads_in_turn",
    "linear_4x3",
    "load",
    "map_batch",
    "mixed_lengths",
    "noisy_line",
    "start_of",
    "straight_line",
    "two_weights",
    "unverified",
    "uses_global_generators",
    "verified",
]
