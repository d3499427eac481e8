"""`gradlab audit`: the user's script, run in this process."""
