"""What was seen of a script: plain data, and what follows from it."""
