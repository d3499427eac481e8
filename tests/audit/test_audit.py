"""The audit: what it measures, that nobody feels it, and that it leaves nothing behind."""

from __future__ import annotations

import gc
import json
import signal
import subprocess
import sys
import sysconfig
import warnings
import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from gradlab import audit
from gradlab.audit import findings, keep, places
from gradlab.audit.history import History, Measured, OptimizerHistory, Stretch, gathered_in, own_part
from gradlab.audit.places import Place
from gradlab.cli import app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCRIPTS = Path(__file__).with_name("scripts")
README = Path(__file__).parents[2] / "README.md"


def train(after: Callable[[nn.Module, torch.optim.Optimizer], object], steps: int = 12, **options: Any) -> list[float]:
    """Train by the usual loop, `after` what follows each step, and return the losses."""
    torch.manual_seed(0)
    x = torch.randn(32, 3)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=0.05, **options), []
    for _ in range(steps):
        loss: Any = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
        loss.backward()
        optimizer.step()
        after(model, optimizer)
        losses.append(loss.item())
    return losses


def multiplied(share: float) -> Callable[[nn.Module, torch.optim.Optimizer], None]:
    def after(model: nn.Module, _: torch.optim.Optimizer) -> None:
        for p in model.parameters():
            assert p.grad is not None
            p.grad *= share

    return after


# Keep


@pytest.mark.parametrize("share", [0.0, 0.25, 0.9, 1.0, 1.5])
def test_keep_is_measured_as_the_share_that_was_left(share: float) -> None:
    with audit.watch(1) as report:
        train(multiplied(share))
    (optimizer,) = report.optimizers
    assert optimizer.keep is not None
    assert optimizer.keep == pytest.approx((share, share, share), abs=1e-6)  # of float32


@pytest.mark.parametrize(
    ("share", "told"),
    [
        (-0.5, "-0.5 times the gradient is left for the next update: it is taken off the next one"),
        (1.5, "1.5 times the gradient is left for the next update: it grows from update to update"),
        (1.0, "never cleared: with this SGD it is momentum 1; it will not settle"),
        (0.0, "cleared for each update"),
    ],
)
def test_what_is_left_is_told_in_a_sentence_that_is_true_of_it(share: float, told: str) -> None:
    with audit.watch(1) as report:
        train(multiplied(share))
    assert report.optimizers[0].meaning == told


def test_what_is_no_multiple_of_the_gradient_is_no_share_of_it() -> None:
    assert keep.share((1.0, 0.0), (1.0, 1.0)) is None


def test_a_complex_share_is_that_of_the_real_inner_product() -> None:
    assert keep.share((1 + 1j, 2j), (2 + 2j, 4j)) == 0.5


# Nobody feels it


@pytest.mark.parametrize("options", [{}, {"foreach": True}, {"fused": True}, {"momentum": 0.9, "nesterov": True}])
def test_losses_and_random_numbers_are_bit_for_bit_those_without(options: dict[str, Any]) -> None:
    def clear(_: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()

    plain = [*train(clear, **options), torch.rand(1).item()]
    with audit.watch(1) as report:
        audited = [*train(clear, **options), torch.rand(1).item()]
    assert audited == plain
    assert report.history.faults == []
    assert report.optimizers[0].updates == 12


def patched() -> list[object]:
    from torch.nn.utils import clip_grad
    from torch.optim import lr_scheduler
    from torch.optim import optimizer as hooks
    from torch.utils.data import dataloader

    schedulers = [vars(each).get("step") for each in vars(lr_scheduler).values() if isinstance(each, type)]
    return [
        torch.autograd.backward, torch.optim.Optimizer.__init__, torch.optim.Optimizer.zero_grad, nn.Module.zero_grad,
        *(cell.cell_contents for each in (clip_grad._clip_grads_with_norm_, nn.utils.clip_grad_value_)
          for cell in each.__closure__ or ()), torch.amp.GradScaler.step,
        torch.amp.GradScaler.unscale_, torch.amp.GradScaler.scale, dataloader._BaseDataLoaderIter.__next__,
        *schedulers,
        list(hooks._global_optimizer_pre_hooks), list(hooks._global_optimizer_post_hooks), list(sys.meta_path),
    ]  # fmt: skip


def test_all_that_is_patched_is_restored_also_when_watches_are_nested_and_when_something_raises() -> None:
    before = patched()
    with audit.watch() as outer:
        with audit.watch() as inner:
            train(multiplied(0.0))
        assert patched() != before
        train(multiplied(1.0))
    assert patched() == before
    assert (len(inner.optimizers), len(outer.optimizers)) == (1, 2)
    with pytest.raises(ZeroDivisionError), audit.watch():
        raise ZeroDivisionError
    assert patched() == before


def test_models_and_optimizers_are_not_kept_alive() -> None:
    with audit.watch(1):
        model = nn.Linear(2, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            loss: Any = model(torch.ones(2)).sum()
            loss.backward()
            optimizer.step()
        gone = [weakref.ref(each) for each in (model, optimizer, model.weight, loss)]
        gc.disable()
        try:
            del model, optimizer, loss
            assert [each() for each in gone] == [None] * 4
        finally:
            gc.enable()


def test_a_failure_of_the_watching_is_noted_and_not_felt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradlab.audit.watched.sample", lambda _: 1 / 0)
    with audit.watch(1) as report:
        train(multiplied(0.0))
    assert "ZeroDivisionError" in report.history.faults[0]
    assert "the audit itself failed" in str(report)


def test_a_warning_of_torch_is_told_of_the_line_of_the_script() -> None:
    optimizer = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1)
    with audit.watch(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.optim.lr_scheduler.StepLR(optimizer, 3).step()
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize("sample", [None, 1], ids=["by default", "each update"])
def test_a_pass_within_which_the_step_is_taken_is_heard_of_the_next_update(sample: int | None) -> None:
    layer = nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    weight: Any = layer.weight  # its method is not typed
    weight.register_post_accumulate_grad_hook(lambda _: optimizer.step())
    with audit.watch(sample) as report:
        for _ in range(30):
            optimizer.zero_grad()
            layer(torch.ones(1, 2)).sum().backward()
    (history,) = report.history.optimizers
    assert [(each.trace, each.times) for each in history.stretches] == [("z", 1), ("Bz", 29)]
    assert history.pending == "B"


@pytest.mark.parametrize("sample", [None, 1], ids=["by default", "each update"])
def test_a_pass_through_another_network_is_none_of_an_optimizer_with_gradients_made_by_hand(
    sample: int | None,
) -> None:
    layer, other = nn.Linear(2, 1), nn.Linear(2, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    with audit.watch(sample) as report:
        for _ in range(30):
            optimizer.zero_grad()
            for p in layer.parameters():
                p.grad = torch.ones_like(p)
            other(torch.ones(1, 2)).sum().backward()
            optimizer.step()
    (history,) = report.history.optimizers
    assert [(each.trace, each.times) for each in history.stretches] == [("z", 30)]


def test_a_step_that_raises_and_one_that_calls_its_parents_are_one_step_each() -> None:
    class Fails(torch.optim.SGD):
        calls = 0

        def step(self, closure: Any = None) -> Any:
            self.calls += 1
            if self.calls == 2:
                raise ZeroDivisionError
            super().step(closure)
            return super().step(closure)

    w = torch.ones(1, requires_grad=True)
    torch.optim.SGD([w], lr=0.1)  # torch puts hooks around the step of a class when one of it is made
    with audit.watch(1) as report:
        optimizer = Fails([w], lr=0.1)
        for _ in range(4):
            optimizer.zero_grad()
            w.sum().backward()  # type: ignore[no-untyped-call]  # torch does not say
            with suppress(ZeroDivisionError):
                optimizer.step()
    assert [each.trace for each in report.history.optimizers[0].stretches] == ["zB", "zBzB", "zB"]


# Warnings


@pytest.mark.usefixtures("_no_longer_warning")
def test_warn_warns_once_at_the_first_update_that_shows_it() -> None:
    audit.warn()
    seen = []

    def after(_: nn.Module, _optimizer: torch.optim.Optimizer) -> None:
        seen.append(len(caught))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(after)
    (warning,) = caught
    assert issubclass(warning.category, audit.GradientWarning)
    assert str(warning.message).startswith("never-cleared: ")
    assert warning.filename == __file__
    assert seen.index(1) + 1 == 1 + 3  # the first update has none before it, and three must show it


# From synthetic histories


def history_of(*stretches: tuple[str, int], measured: list[Measured]) -> History:
    optimizer = OptimizerHistory("SGD", 2, measured=measured, places={})
    for trace, times in stretches:
        optimizer.stretches.append(Stretch(trace, optimizer.updates + 1, times))
        optimizer.updates += times
    optimizer.seen_at("S", Place("train.py", 7))
    return History([optimizer])


def test_two_updates_are_too_few_to_say_never() -> None:
    kept = [Measured(nth, (1.0,)) for nth in (2, 3)]
    assert findings.find(history_of(("B", 3), measured=kept)) == []
    (found,) = findings.find(history_of(("B", 4), measured=[*kept, Measured(4, (1.0,))]))
    assert (found.id, found.since_update, found.places) == ("never-cleared", 2, (Place("train.py", 7),))


def test_a_gradient_that_was_gone_once_was_not_never_cleared() -> None:
    kept = [Measured(nth, (1.0,)) for nth in range(2, 9)]
    assert findings.find(history_of(("B", 9), measured=[*kept, Measured(9, (0.0,))])) == []


@pytest.mark.parametrize(("lines", "batches", "so"), [(1, 0, True), (0, 0, False), (0, 2, True), (2, 2, False)])
def test_passes_of_which_no_line_is_known_are_micro_batches_where_as_many_were_fetched(
    lines: int, batches: int, so: bool
) -> None:
    (optimizer,) = history_of(
        ("zBB", 3), measured=[Measured(nth, (0.0,), lines=lines) for nth in (1, 2, 3)]
    ).optimizers
    optimizer.add_fetched(batches)
    assert keep.of_micro_batches(optimizer, 2) == so


def test_equal_updates_are_one_stretch() -> None:
    optimizer = OptimizerHistory("SGD", 1)
    for nth in range(10_000):
        optimizer.add_update("zBe" if nth % 100 == 99 else "zB")
    assert (len(optimizer.stretches), optimizer.updates) == (200, 10_000)


def test_what_another_optimizer_made_come_is_no_part_of_an_update() -> None:
    assert [own_part(trace) for trace in ("BozB", "zB", "BBo", "")] == ["zB", "zB", "BBo", ""]
    assert [gathered_in(trace) for trace in ("BozBB", "zBzB", "zBz")] == [2, 1, 0]


# The command


@pytest.fixture
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put back what a script takes over as `__main__`."""
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


BODY = """
import sys, torch, os, signal
print(__name__, __file__, sys.argv[1:], os.path.basename(sys.path[0]), flush=True)
w = torch.ones(3, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=0.1)
for _ in range(9):
    w.sum().backward()
    optimizer.step()
"""


@pytest.mark.usefixtures("_as_it_was")
@pytest.mark.parametrize(
    ("end", "status", "told"),
    [
        ("sys.exit('enough')", 1, "enough"),
        ("sys.exit(7)", 7, ""),
        ("w.backward(torch.ones(2))", 1, "RuntimeError: Mismatch"),
        ("raise KeyboardInterrupt", 130, "KeyboardInterrupt"),
        ("sys.excepthook = lambda *_: print('my own', file=sys.stderr); 1 / 0", 1, "my own"),
    ],
    ids=["exit with words", "exit", "raises", "interrupted", "its own hook"],
)
def test_however_a_script_ends_the_report_is_one_document(folder: Path, end: str, status: int, told: str) -> None:
    (folder / "s.py").write_text(BODY + end)
    done = CliRunner().invoke(app, ["audit", "--json", "s.py", "--json", "-x"])
    document = json.loads(done.stdout)
    assert (done.exit_code, document["exit_status"], document["script"]) == (status or 1, status, "s.py")
    assert [each["id"] for each in document["findings"]] == ["never-cleared"]
    assert f"__main__ {folder / 's.py'} ['--json', '-x'] {folder.name}\n" in done.stderr
    assert told in done.stderr
    assert "gradlab" not in done.stderr


@pytest.mark.usefixtures("_as_it_was")
def test_a_module_is_run_by_its_name_and_exit_zero_forgives_what_is_found(folder: Path) -> None:
    (folder / "mine_to_audit").mkdir()
    (folder / "mine_to_audit" / "__main__.py").write_text(BODY + "print(__package__, __spec__.name)")
    done = CliRunner().invoke(app, ["audit", "--exit-zero", "-m", "mine_to_audit", "--help"])
    assert done.exit_code == 0
    assert done.stdout.split()[0] == "__main__"
    assert done.stdout.endswith(f"['--help'] {folder.name}\nmine_to_audit mine_to_audit.__main__\n")
    assert "never-cleared" in done.stderr


@pytest.mark.usefixtures("_as_it_was")
def test_a_package_that_is_installed_is_the_users_own_when_it_is_audited(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = folder / "site-packages"
    (installed / "trains_itself" / "run").mkdir(parents=True)
    for name, text in (
        ("__init__", ""),
        ("loop", BODY),
        ("run/__init__", ""),
        ("run/all", "import trains_itself.loop"),
    ):
        (installed / "trains_itself" / f"{name}.py").write_text(text)
    (installed / "other.py").touch()
    monkeypatch.syspath_prepend(str(installed))
    monkeypatch.setattr(places, "_audited", set())
    done = CliRunner().invoke(app, ["audit", "--json", "-m", "trains_itself.run.all"])
    (found,) = json.loads(done.stdout)["findings"]
    assert {each["file"] for each in found["places"]} == {str(installed / "trains_itself" / "loop.py")}
    assert [each["line"] for each in found["places"]] == [7, 8]  # of BODY
    assert not places.is_users(str(installed / "other.py"))


def test_what_lies_beside_the_folders_of_an_environment_is_the_users_own() -> None:
    assert places.is_users(str(Path(sysconfig.get_path("data")) / "train.py"))
    assert not places.is_users(str(Path(sysconfig.get_path("purelib")) / "train.py"))


@pytest.mark.usefixtures("_as_it_was")
@pytest.mark.parametrize(("source", "told"), [("1 +", "SyntaxError"), ("\0", "")], ids=["syntax", "null byte"])
def test_a_script_that_does_not_compile_ends_as_python_ends(folder: Path, source: str, told: str) -> None:
    (folder / "s.py").write_text(source)
    done = CliRunner().invoke(app, ["audit", "s.py"])
    assert done.exit_code == 1
    assert told in done.stderr
    assert "gradlab/" not in done.stderr


@pytest.mark.parametrize("args", [["nosuch.py"], ["."], ["-m", "nosuch"], ["-m", "nosuch.one"]], ids=" ".join)
@pytest.mark.usefixtures("_as_it_was")
def test_a_script_that_is_not_there_is_told_in_a_line(args: list[str]) -> None:
    done = CliRunner().invoke(app, ["audit", *args])
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.usefixtures("_as_it_was")
def test_a_traceback_is_that_of_the_script_alone(folder: Path) -> None:
    (folder / "s.py").write_text(BODY + "class Bad(torch.optim.SGD):\n    def __init__(self):\n        1 / 0\nBad()\n")
    done = CliRunner().invoke(app, ["audit", "s.py"])
    shown = done.stderr.partition("gradlab audit")[0]
    assert [line.split(",")[0] for line in shown.splitlines() if "File" in line] == [f'  File "{folder / "s.py"}"'] * 2


@pytest.mark.usefixtures("_as_it_was")
def test_the_script_of_the_readme_gives_the_six_lines_of_the_readme(folder: Path) -> None:
    text = README.read_text(encoding="utf-8")
    source = text.partition("```py\n")[2].partition("```")[0]
    told = text.partition("```text\ngradlab audit")[2].partition("```")[0]
    (folder / "train.py").write_text(source)
    assert len(source.splitlines()) == 15
    done = CliRunner().invoke(app, ["audit", "train.py"])
    assert done.stderr == "gradlab audit" + told
    assert len(done.stderr.splitlines()) == 6
    assert (done.exit_code, done.stdout[:5]) == (1, "loss ")


def test_a_script_that_is_terminated_is_reported_on_and_its_forked_child_is_not(folder: Path) -> None:
    ends = "if os.fork() == 0:\n    os.kill(os.getpid(), signal.SIGTERM)\nprint(os.wait()[1])\n"
    (folder / "s.py").write_text(BODY + ends + "sys.stdout.close()\nos.kill(os.getpid(), signal.SIGTERM)\n1 / 0")
    command = [sys.executable, "-m", "gradlab", "audit", "--json", "s.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, json.loads(done.stdout)["exit_status"]) == (143, 143)
    assert done.stderr.splitlines()[-1] == str(int(signal.SIGTERM))  # what the child ended by
