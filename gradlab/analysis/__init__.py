"""What rows mean: curves and verdicts, paired intervals, closed forms, sharpness, and the results of runs."""
