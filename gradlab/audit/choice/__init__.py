"""The choice of rules: by id, in pyproject.toml, and in comments on lines of a script."""
