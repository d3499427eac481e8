"""`python -m gradlab`: the same as `gradlab`."""

from gradlab.cli import main

main(prog_name="gradlab")
