"""Recording what a script does: what happens, and what gradients hold, written down as a history."""
