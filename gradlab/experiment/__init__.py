"""Experiments: a task, an optimizer, modes and seeds, read from TOML into one canonical form with an identity."""

from gradlab.experiment.checking import RULE_KEYS as RULE_KEYS
from gradlab.experiment.checking import SHORT_KEYS as SHORT_KEYS
from gradlab.experiment.checking import check_rule as check_rule
from gradlab.experiment.inequality import inequality_of as inequality_of
from gradlab.experiment.model import Expected as Expected
from gradlab.experiment.model import Experiment as Experiment
from gradlab.experiment.model import identity as identity
from gradlab.experiment.reading import DEFAULT_EXPERIMENT as DEFAULT_EXPERIMENT
from gradlab.experiment.reading import Override as Override
from gradlab.experiment.reading import from_plain as from_plain
from gradlab.experiment.reading import from_task as from_task
from gradlab.experiment.reading import load as load
from gradlab.experiment.reading import locate as locate
from gradlab.experiment.reading import location_of as location_of
from gradlab.experiment.reading import overrides_of as overrides_of
from gradlab.experiment.reading import read_text as read_text
from gradlab.experiment.reading import shipped as shipped
from gradlab.experiment.reading import to_plain as to_plain
