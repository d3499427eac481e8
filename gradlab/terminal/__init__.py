"""What a terminal shows: tables, progress, signals. It returns text and prints nothing."""
