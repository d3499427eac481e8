"""The notebook and the page for Python are true: each cell and each block runs, and shows what it promises."""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import mean
from textwrap import indent
from typing import Any

import numpy as np
import pytest

import gradlab
from gradlab import experiment

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "experiments" / "zero_grad.ipynb"
SCRIPT = """
import torch
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(5):
    optimizer.zero_grad()
    model(torch.ones(1, 2)).square().sum().backward()
    optimizer.step()
"""
FORGETS = SCRIPT.replace("    optimizer.zero_grad()\n", "    pass\n")


def shown(notebook: Any) -> list[str]:
    """Return the last output of each cell as plain text, and lines of a stream as they are."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.outputs]
    return [each.get("text") or each["data"]["text/plain"] for each in (cell.outputs[-1] for cell in cells)]


@pytest.mark.slow
def test_the_notebook_runs_in_jupyter_and_shows_what_it_did(folder: Path) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    saved, notebook = (nbformat.read(NOTEBOOK, as_version=4) for _ in range(2))
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()  # raises if a cell does
    verdicts = [re.findall(r"falls|rises|oscillates|diverges|flat", text) for text in shown(saved)]
    assert [re.findall(r"falls|rises|oscillates|diverges|flat", text) for text in shown(notebook)] == verdicts
    assert verdicts[0] == ["falls", "rises", "falls"]
    first, *_, audited = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    assert [each.output_type for each in first] == ["display_data", "execute_result"], "progress is one output"
    assert "<progress" not in first[0]["data"]["text/html"]
    assert first[1]["data"]["text/html"].startswith('<img src="data:image/png;base64,')
    assert re.search(r"at cell In\[\d+\], lines \d+, \d+", audited[-1]["data"]["text/plain"])
    pictures = [
        each for cell in notebook.cells for each in cell.get("outputs", []) if "image/png" in each.get("data", {})
    ]
    assert len(pictures) == 1, "a Figure is a picture without pyplot"


def test_the_other_learning_rate_is_half_and_delays_the_rise() -> None:
    saved = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in saved["cells"]]
    (call,) = [each for each in cells if each.startswith("gradlab.run") and "lr=" in each]
    assert "This is half of the learning rate above, for 20 epochs instead of 5." in cells[cells.index(call) - 1]
    shipped = experiment.load("diverging_loss")
    lr, epochs = (float(re.search(rf"{name}=([\d.]+)", call)[1]) for name in ("lr", "epochs"))  # type: ignore[index]
    assert (2 * lr, epochs) == (shipped.optimizer.options["lr"], 20)
    assert shipped.epochs == 5
    result = gradlab.run("diverging_loss", modes=["zero_grad", "no_zero_grad"], lr=lr, epochs=20, quiet=True)
    cleared, kept = ([mean(each) for each in np.split(run.losses, 20)] for run in result)
    assert max(abs(one - other) for one, other in zip(cleared[:5], kept[:5], strict=True)) < 0.3  # of 1.5
    assert kept[-1] > 5 * cleared[-1]


def test_the_saved_notebook_has_outputs_and_no_errors() -> None:
    nbformat = pytest.importorskip("nbformat")
    saved = nbformat.read(NOTEBOOK, as_version=4)
    outputs = [each for cell in saved.cells if cell.cell_type == "code" for each in cell.outputs]
    assert len(outputs) > 5
    assert "error" not in {each.output_type for each in outputs}
    assert "stderr" not in {each.get("name") for each in outputs}


@pytest.mark.slow
def test_every_block_of_the_page_runs_in_its_order(folder: Path) -> None:
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 7
    pytest.importorskip("pandas")
    pytest.importorskip("sklearn")
    (folder / "train.py").write_text(SCRIPT)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(f"def train():\n{indent(FORGETS, '    ')}", "<ipython-input-9-x>", "exec"), names)  # noqa: S102 - ours
    for block in blocks:
        small = block.replace("1e-2:1:9:log", "1e-2:1:2:log").replace("0:1:5", "0:1:2").replace("seeds=4", "seeds=1")
        exec(compile(small, "<ipython-input-1>", "exec"), names)  # noqa: S102 - our own page
    assert (folder / "loss.pdf").read_bytes().startswith(b"%PDF")
    assert names["run"].losses.shape == (20,)
    assert len(names["losses"]) == 20
    assert len(names["grid"]) == 4
    assert "at cell In[9], lines 8, 9" in repr(names["report"])
    assert names["compared"].check().modes == ["as_written", "zero_grad", "no_zero_grad"]
