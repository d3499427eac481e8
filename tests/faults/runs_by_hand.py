"""Writes run folders like those of gradlab, so that tests need not import torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RECORD: dict[str, Any] = {
    "experiment": "line",
    "mode": "zero_grad",
    "seed": 42,
    "identity": "0123456789ab",
    "status": "done",
    "title": "A line",
    "settings": {
        "task": "noisy_line",
        "task_source": None,
        "task_options": {"samples": 4},
        "mode": "zero_grad",
        "seed": 42,
        "optimizer": {"name": "SGD", "lr": 0.01},
        "epochs": 1,
        "device": "cpu",
        "threads": 1,
    },
    "weights": "",
    "first_batch": "",
    "versions": {"torch": "2.4"},
    "started": "2024-01-01T00:00:00+00:00",
    "seconds": 0.1,
    "rows": 3,
    "quadratic": None,
    "error": "",
    "format": 1,
}
ROWS = "".join(f'{{"step":{n},"update":{n},"epoch":0,"loss":{3.0 - n}}}\n' for n in range(3))


def run_folder(record: dict[str, Any] | str | bytes = RECORD, rows: str = ROWS, out: str = "runs") -> Path:
    """Write a run folder in `out`/line and return it; the record may be any text or bytes."""
    folder = Path(out) / "line" / "zero_grad-seed42-0123456789ab"
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps(record) if isinstance(record, dict) else record
    (folder / "run.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    (folder / "metrics.jsonl").write_text(rows)
    return folder
