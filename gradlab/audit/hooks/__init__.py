"""Hooks: every module installs itself around some of torch's functions, and says what happens to the recorders."""
