"""Terminal: tables, progress and signals. Functions return text; they print nothing."""
