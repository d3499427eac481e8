"""Curves to figures: loss against step, update or epoch, one curve a mode, named at the curve; and maps of sweeps."""

from gradlab.plotting.figure import check_formats, draw, rendered
from gradlab.plotting.labels import LABEL
from gradlab.plotting.panels import Phase, Profile, Section, check_axes, panels_of
from gradlab.plotting.phase_diagram import draw_phases
from gradlab.plotting.theory_curves import without_theory

__all__ = [
    "LABEL",
    "Phase",
    "Profile",
    "Section",
    "check_axes",
    "check_formats",
    "draw",
    "draw_phases",
    "panels_of",
    "rendered",
    "without_theory",
]
