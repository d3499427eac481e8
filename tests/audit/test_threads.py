"""Several threads of a script: the audit records them one after the other, but stops if two train at once."""

from __future__ import annotations

import _thread
import threading
from typing import TYPE_CHECKING, Any

import pytest
import torch

from gradlab import audit
from gradlab.audit.history.history import THREADS_AT_ONCE
from tests.processes import gradlab

if TYPE_CHECKING:
    from pathlib import Path


AT_ONCE_AGAIN_AND_AGAIN = """
import threading, torch
from torch import nn
from gradlab import audit

def train():
    x = torch.randn(256, 64)
    model = nn.Sequential(nn.Linear(64, 256), nn.Tanh(), nn.Linear(256, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(80):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

for _ in range(4):
    with audit.watch(1) as report:
        threads = [threading.Thread(target=train) for _ in range(2)]
        [each.start() for each in threads], [each.join() for each in threads]
    print(report.history.threads_at_once, report.findings, report.history.faults)
"""


def test_of_two_trainings_at_once_nothing_is_found(folder: Path) -> None:
    (folder / "s.py").write_text(AT_ONCE_AGAIN_AND_AGAIN)
    done = gradlab("audit", "s.py")  # a process, because reading a gradient during a pass may crash it
    assert (done.status, done.stdout) == (3, "True [] []\n" * 4)
    assert done.stderr.startswith("gradlab audit: no verdict\n")
    assert gradlab("audit", "--exit-zero", "s.py").status == 0


def train(updates: int = 12, *, within: Any = None, clearing: bool = False) -> None:
    """Train a layer, clear only if `clearing`, and call `within` during every backward pass."""
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(updates):
        if clearing:
            optimizer.zero_grad()
        loss: Any = model(torch.ones(8, 4)).square().mean()
        if within:
            loss.register_hook(within)
        loss.backward()
        optimizer.step()


def in_thread(*work: Any) -> None:
    """Run every function in its own thread, one after the other."""
    for each in work:
        thread = threading.Thread(target=each)
        thread.start()
        thread.join()


def found(report: audit.Report) -> list[str]:
    return [each.id for each in report.findings]


def test_a_training_in_another_thread_is_recorded() -> None:
    with audit.watch() as report:
        in_thread(train)
    assert (found(report), report.history.threads_at_once) == (["never-cleared"], False)


def test_trainings_in_successive_threads_are_recorded() -> None:
    with audit.watch() as report:
        in_thread(train, train)
    assert [each.mode for each in report.optimizers] == ["no_zero_grad", "no_zero_grad"]
    assert (found(report), report.history.threads_at_once) == (["never-cleared"], False)  # at the same lines


def test_a_training_beside_a_finished_one_is_recorded() -> None:
    with audit.watch() as report:
        train()
        in_thread(train)
        train()
    assert [each.mode for each in report.optimizers] == ["no_zero_grad"] * 3
    assert (found(report), report.history.threads_at_once) == (["never-cleared"], False)


def test_a_pass_in_autograds_own_thread_is_part_of_the_outer() -> None:
    """This happens on a GPU, where an autograd thread recomputes checkpointed layers."""
    over = threading.Event()

    def nested(_: object) -> None:
        inner: Any = torch.ones(1, requires_grad=True)
        (inner * 2).sum().backward()
        over.set()

    def of_autograd(_: object) -> None:
        over.clear()
        _thread.start_new_thread(nested, (None,))
        assert over.wait(10)

    with audit.watch() as report:
        train(within=of_autograd)
    assert (found(report), report.history.threads_at_once) == (["never-cleared"], False)
    assert report.history.backwards == 12


def amid_a_pass(what: str, *, clearing: bool) -> audit.Report:
    """Watch a training, with a call from another thread during its ninth pass, which reads no gradient."""
    model = torch.nn.Linear(4, 1)
    other = torch.optim.SGD(model.parameters(), lr=1e-3)
    loss: Any = model(torch.ones(1, 4)).sum()
    seen = 0

    def once(_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == 9:
            calls = {
                "backward": loss.backward,
                "step": other.step,
                "clearing": other.zero_grad,
                "model": model.zero_grad,
            }
            in_thread(calls[what])

    with audit.watch() as report:
        train(within=once, clearing=clearing)
    return report


@pytest.mark.parametrize("clearing", [False, True])
@pytest.mark.parametrize("what", ["backward", "step", "clearing", "model"])
def test_a_call_in_another_thread_during_a_pass_ends_listening(what: str, clearing: bool) -> None:
    report = amid_a_pass(what, clearing=clearing)
    assert report.history.threads_at_once
    assert report.optimizers[0].updates == 8
    assert (report.findings, report.history.faults) == ([], [])
    assert THREADS_AT_ONCE in " ".join(map(str.strip, report.lines()))
