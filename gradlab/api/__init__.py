"""gradlab from Python: `run`, `sweep` and `compare`, as functions with results that a notebook shows.

`arguments` turns what the caller passes into an experiment, and `session` guards the caller's process while it trains.
`progress` shows how far it is. `run_results` and `sweep_results` are what the functions return, and `showing` makes
text, HTML and pictures of them.
"""
