"""Experiments: a task, an optimizer, modes and seeds; TOML in, one canonical form and identity out."""

from gradlab.experiment.model import Expected, Experiment, OptimizerSettings, identity
from gradlab.experiment.reading import DEFAULT, Override, from_task, load, locate, shipped, text_of

__all__ = [
    "DEFAULT",
    "Expected",
    "Experiment",
    "OptimizerSettings",
    "Override",
    "from_task",
    "identity",
    "load",
    "locate",
    "shipped",
    "text_of",
]
