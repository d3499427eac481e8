"""The recording of a script's events and gradients into a history."""
