"""The results of runs, as run and show print them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradlab.analysis.results import Result


def result_json(result: Result) -> dict[str, Any]:
    """Return a result as JSON shows it."""
    keys = (
        *("mode", "seed", "status", "verdict", "steps", "updates", "first_loss", "last_loss", "best_loss"),
        *("seconds", "cached"),
    )
    more = {key: getattr(result, key) for key in ("error", "damaged") if getattr(result, key)}
    return {key: getattr(result, key) for key in keys} | {"folder": str(result.folder)} | more


def failed_runs(results: list[Result]) -> dict[str, list[Result]]:
    """Return the runs that failed, by the error that ended them."""
    found: dict[str, list[Result]] = {}
    for result in results:
        if result.error:
            found.setdefault(result.error, []).append(result)
    return found
