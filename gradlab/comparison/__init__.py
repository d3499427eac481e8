"""`gradlab compare`: a user's own script, unchanged, under several modes."""
