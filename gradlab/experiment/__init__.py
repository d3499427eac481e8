"""Experiments: a task, an optimizer, modes and seeds; TOML in, one canonical form and identity out."""

from gradlab.experiment.checking import ELSEWHERE, RULE, check_rule
from gradlab.experiment.model import Expected, Experiment, OptimizerSettings, identity
from gradlab.experiment.reading import (
    DEFAULT,
    Override,
    from_plain,
    from_task,
    load,
    locate,
    overrides_of,
    place_of,
    plain,
    shipped,
    text_of,
)

__all__ = [
    "DEFAULT",
    "ELSEWHERE",
    "RULE",
    "Expected",
    "Experiment",
    "OptimizerSettings",
    "Override",
    "check_rule",
    "from_plain",
    "from_task",
    "identity",
    "load",
    "locate",
    "overrides_of",
    "place_of",
    "plain",
    "shipped",
    "text_of",
]
