"""torch.compile does not compile hooks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gradlab import audit
from gradlab.audit.places import UNCOUNTED

OURS = str(Path(audit.__file__).parent)


@pytest.mark.slow  # it compiles
@pytest.mark.filterwarnings("ignore")  # from torch's compiler
def test_torch_compile_does_not_compile_the_hooks() -> None:
    from torch._dynamo import convert_frame
    from torch._dynamo.utils import counters

    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    @torch.compile(backend="eager")
    def step() -> None:
        optimizer.zero_grad()
        model(torch.ones(8, 4)).square().mean().backward()
        optimizer.step()

    torch._dynamo.reset()
    counters.clear()
    with audit.watch(1) as report:
        for _ in range(12):
            step()
    codes = [code() for code in convert_frame.input_codes.seen]
    compiled = {code.co_filename for code in codes if code is not None}
    assert __file__ in compiled
    assert [file for file in compiled if file.startswith(OURS) or file == UNCOUNTED] == []
    assert any("on_start" in reason for reason in counters["graph_break"])  # called, not traced
    assert report.optimizers[0].updates == 12
