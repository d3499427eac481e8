"""Curves to figures: loss against step, update or epoch, one curve a mode, named at the curve."""

from gradlab.plotting.figure import check_formats, draw, rendered
from gradlab.plotting.labels import LABEL
from gradlab.plotting.predicted import without_theory

__all__ = ["LABEL", "check_formats", "draw", "rendered", "without_theory"]
