"""Figures: loss over step, update or epoch with one labelled curve per mode, and phase diagrams of sweeps."""

from gradlab.plotting.colors import DEFAULT_COLOR as DEFAULT_COLOR
from gradlab.plotting.colors import color_of as color_of
from gradlab.plotting.differences import common_title as common_title
from gradlab.plotting.differences import sweep_titles as sweep_titles
from gradlab.plotting.figure import draw as draw
from gradlab.plotting.file_names import picture_name as picture_name
from gradlab.plotting.labels import LABEL_SIZE as LABEL_SIZE
from gradlab.plotting.losses import different_losses as different_losses
from gradlab.plotting.panels import PhaseMap as PhaseMap
from gradlab.plotting.panels import Profile as Profile
from gradlab.plotting.panels import ProfileCurve as ProfileCurve
from gradlab.plotting.panels import check_axes as check_axes
from gradlab.plotting.panels import panels_of as panels_of
from gradlab.plotting.panels import panels_of_sweep as panels_of_sweep
from gradlab.plotting.phase_diagram import draw_phases as draw_phases
from gradlab.plotting.rendering import check_formats as check_formats
from gradlab.plotting.rendering import rendered as rendered
from gradlab.plotting.sizes import parse_limits as parse_limits
from gradlab.plotting.sizes import parse_size as parse_size
from gradlab.plotting.theory_curves import without_theory as without_theory
from gradlab.plotting.views import choose_modes as choose_modes
