"""The history of a script's training: plain data, and what follows from it."""
