"""Analysis of rows: curves, verdicts, confidence intervals, theory, sharpness, and the results of runs."""
