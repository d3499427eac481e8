"""Training in the caller's process: interrupts, generators, threads and signals."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import threading
import time
from itertools import groupby
from typing import Any

import numpy as np
import pytest
import torch

from gradlab import Task
from gradlab.api import session
from tests.api.making import interrupting, my_task, short, state


def test_generators_threads_and_signals_are_as_before() -> None:
    torch.set_num_threads(2)
    before = state()
    short()
    assert state() == before
    with pytest.raises(KeyboardInterrupt):
        short(interrupting)
    assert state() == before


def test_the_next_call_continues_after_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt) as raised:
        short(interrupting, checkpoint_every=1e-6, task_options={"at": 3})
    assert str(raised.value) == "zero_grad seed 42 stopped after 3 steps; the same call continues from there"
    result = short(interrupting, task_options={"at": 3})
    assert [run.steps for run in result] == [6, 6]
    assert result["zero_grad", 42].losses.tolist() == short(out=None)["zero_grad", 42].losses.tolist()


def test_a_second_interrupt_stops_at_once() -> None:
    before = state()
    reached: list[int] = []

    def task(seed: int) -> Task:
        made = my_task(seed)

        def loss(model: Any, batch: Any) -> Any:
            if not reached:
                for number in (1, 2):
                    signal.raise_signal(signal.SIGINT)
                    reached.append(number)
            return made.loss(model, batch)

        return Task(made.model, made.batches, loss)

    with pytest.raises(KeyboardInterrupt) as raised:
        short(task)
    assert (reached, str(raised.value)) == ([1], "stopped at once; the same call does the rest")
    assert state() == before
    assert [run.status for run in short(task)] == ["done", "done"]


def test_a_notebook_shows_the_message_of_an_interrupt() -> None:
    with pytest.raises(session.TrainingInterrupt) as raised:
        short(interrupting, out=None)
    head, place = raised.value._render_traceback_()
    assert head == "TrainingInterrupt: stopped"
    assert re.fullmatch(r"at .*\.py:\d+", place)


def test_an_interrupt_while_state_is_restored_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    before, done, restore = state(), [], session._restore

    def interrupted(states: dict[str, Any]) -> None:
        signal.raise_signal(signal.SIGINT)
        restore(states)
        done.append(1)

    monkeypatch.setattr(session, "_restore", interrupted)
    with pytest.raises(KeyboardInterrupt):
        short(out=None)
    assert (done, state()) == ([1], before)


def test_without_files_nothing_can_continue() -> None:
    with pytest.raises(KeyboardInterrupt) as raised:
        short(interrupting, out=None)
    assert str(raised.value) == "stopped"


def test_a_handler_that_is_not_python_s_is_left_alone() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with session.training_session():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_during_the_end_waits_for_it() -> None:
    done = []

    def end() -> None:
        with session._interrupts_delayed():
            signal.raise_signal(signal.SIGINT)
            done.append(1)

    with pytest.raises(KeyboardInterrupt):
        end()
    assert done == [1]


def test_it_works_off_the_main_thread_one_at_a_time() -> None:
    found: list[Any] = []
    order: list[int] = []
    both = threading.Barrier(2)

    def slow(seed: int) -> Task:
        made = my_task(seed)

        def loss(model: Any, batch: Any) -> Any:
            order.append(threading.get_ident())
            time.sleep(0.01)  # so that two at once would take turns
            return made.loss(model, batch)

        return Task(made.model, made.batches, loss)

    def train() -> None:
        both.wait()
        found.append(short(slow, out=None))

    threads = [threading.Thread(target=train) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert [run.losses.tolist() for result in found for run in result] == [run.losses.tolist() for run in short()] * 2
    assert len([thread for thread, _ in groupby(order)]) == 2


def test_a_first_import_leaves_generators_as_at_import() -> None:
    code = """
import random, gradlab
before = random.getstate()
gradlab.run("noisy_line", steps=2, quiet=True)
assert random.getstate() == before
import torch, numpy
assert torch.equal(torch.get_rng_state(), torch.Generator().get_state())
one = numpy.random.get_state()[1].tolist()
gradlab.run("noisy_line", steps=3, quiet=True)
assert numpy.random.get_state()[1].tolist() == one
numpy.random.seed(42)
assert numpy.random.get_state()[1].tolist() != one
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr[-2000:]


def test_what_was_not_imported_is_left_as_at_import() -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    numbers = repr(np.random.get_state())
    session._restore({"python": random.getstate(), "numpy": None})
    assert torch.equal(torch.get_rng_state(), torch.Generator().get_state())
    assert repr(np.random.get_state()) != numbers
