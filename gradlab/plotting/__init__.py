"""Curves to figures: loss against step, update or epoch, one curve a mode, named at the curve."""

from gradlab.plotting.figure import check_formats, draw, rendered
from gradlab.plotting.labels import LABEL

__all__ = ["LABEL", "check_formats", "draw", "rendered"]
