"""Tests that inject faults and check that nothing is lost."""
