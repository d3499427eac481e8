"""Hooks: every module wraps some of torch's functions and reports their calls to the recorders."""
