"""Faults, injected for real: what is lost is nothing."""
