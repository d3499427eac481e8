"""Fast paths record the same history as the recorder."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

from gradlab import audit
from gradlab.audit.recording import fast_paths, optimizers, usual_updates, watched
from gradlab.audit.recording.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gradlab.audit.history.history import History

UPDATES = 44
ODD = (15, 16, 34)  # updates with something unusual, none of them measured


class Failed(Exception):  # noqa: N818 - scripts catch it
    """Raised and caught by a script."""


class Training:
    """A tiny model, its optimizer and its losses."""

    def __init__(self) -> None:
        torch.manual_seed(0)  # for the weights and all later random numbers
        self.model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        self.optimizer: torch.optim.Optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
        self.losses: list[float] = []

    def loss(self, x: torch.Tensor | None = None) -> Any:
        x = torch.randn(4, 3) if x is None else x
        loss = nn.functional.mse_loss(self.model(x), x.sum(1, keepdim=True))
        self.losses.append(loss.item())
        return loss

    def grads(self) -> Iterable[torch.Tensor]:
        return [p.grad for p in self.model.parameters() if p.grad is not None]

    def loop(
        self,
        *,
        clear: Callable[[], object] | None = None,
        backward: Callable[[int], object] | None = None,
        between: Callable[[int], object] | None = None,
        step: Callable[[int], object] | None = None,
        after: Callable[[int], object] | None = None,
    ) -> None:
        """Train with the usual loop, except for the given steps."""
        for update in range(1, UPDATES + 1):
            (clear or self.optimizer.zero_grad)()
            backward(update) if backward else self.loss().backward()
            if between:
                between(update)
            step(update) if step else self.optimizer.step()
            if after:
                after(update)


def usual(training: Training) -> None:
    training.loop()


def zeros(training: Training) -> None:
    training.loop(clear=lambda: training.optimizer.zero_grad(set_to_none=False))


def by_the_model(training: Training) -> None:
    training.loop(clear=training.model.zero_grad)


def never_cleared(training: Training) -> None:
    training.loop(clear=lambda: None)


def halved(training: Training) -> None:
    training.loop(clear=lambda: [grad.mul_(0.5) for grad in training.grads()])


def _accumulated(training: Training, batches: int) -> None:
    loader: DataLoader[Any] = DataLoader(torch.randn(batches * 2, 3), batch_size=2, shuffle=True)  # type: ignore[arg-type]  # a tensor will do
    while len(training.losses) < UPDATES * 4:
        for nth, x in enumerate(loader, 1):
            (training.loss(x) / 4).backward()
            if nth % 4 == 0 or nth == batches:
                training.optimizer.step()
                training.optimizer.zero_grad()


def accumulated(training: Training) -> None:
    _accumulated(training, 40)


def last_window_of_one_pass(training: Training) -> None:
    _accumulated(training, 41)


def last_window_divided_by_another_number(training: Training) -> None:
    for update in range(UPDATES):
        for _ in range(4):
            (training.loss() / (2 if update in ODD else 4)).backward()
        training.optimizer.step()
        training.optimizer.zero_grad()


def several_loaders(training: Training) -> None:
    loaders: list[DataLoader[Any]] = [DataLoader(torch.randn(UPDATES, 3), batch_size=1) for _ in range(3)]  # type: ignore[arg-type]  # as above
    for batches in zip(*loaders, strict=True):
        training.optimizer.zero_grad()
        for x in batches:
            (training.loss(x) / 3).backward()
        training.optimizer.step()


def pass_of_another_model(training: Training) -> None:
    other = nn.Linear(3, 1)

    def between(update: int) -> None:
        if update in ODD:
            other(torch.randn(2, 3)).sum().backward()

    training.loop(clear=lambda: training.optimizer.zero_grad(set_to_none=False), between=between)


def first_windows_of_one_pass(training: Training) -> None:
    def backward(update: int) -> None:
        for _ in range(1 if update < UPDATES // 2 else 4):
            (training.loss() / 4).backward()

    training.loop(backward=backward)


def clipped(training: Training) -> None:
    training.loop(between=lambda _: nn.utils.clip_grad_norm_(training.model.parameters(), 0.1))


def scheduled(training: Training) -> None:
    scheduler = torch.optim.lr_scheduler.ExponentialLR(training.optimizer, 0.99)
    training.loop(after=lambda _: scheduler.step())


def step_that_raises(training: Training) -> None:
    class Raising(torch.optim.SGD):
        fails = False

        def step(self, *args: Any) -> Any:
            if self.fails:
                raise Failed
            return super().step(*args)

    training.optimizer = optimizer = Raising(training.model.parameters(), lr=0.01)

    def step(update: int) -> None:
        optimizer.fails = update in ODD
        with suppress(Failed):
            optimizer.step()

    training.loop(step=step)


def _raising(training: Training, layer: int) -> None:
    """Make the pass raise at the output of a layer."""
    failing: list[None] = []

    def fail(_: torch.Tensor) -> None:
        if failing:
            raise Failed

    training.model[layer].register_forward_hook(lambda _module, _inputs, output: output.register_hook(fail) and None)

    def backward(update: int) -> None:
        failing[:] = [None] if update in ODD else []
        with suppress(Failed):
            training.loss().backward()

    training.loop(backward=backward)


def backward_that_raises(training: Training) -> None:
    _raising(training, 2)


def backward_that_raises_half_way(training: Training) -> None:
    _raising(training, 0)


class Nested(torch.optim.SGD):
    """An optimizer whose step calls its parent's step."""

    def step(self, *args: Any) -> Any:
        """Call the parent's step."""
        return super().step(*args)


def step_within_step(training: Training) -> None:
    training.optimizer = Nested(training.model.parameters(), lr=0.01)
    training.loop()


def closure_that_raises(training: Training) -> None:
    training.optimizer = Nested(training.model.parameters(), lr=0.01)

    def step(update: int) -> None:
        def closure() -> float:
            if update in ODD:
                raise Failed
            return 0.0

        with suppress(Failed):
            training.optimizer.step(closure)

    training.loop(step=step)


def closure_that_trains(training: Training) -> None:
    def step(_: int) -> None:
        def closure() -> float:
            training.optimizer.zero_grad()
            loss = training.loss()
            loss.backward()
            return float(loss.item())

        training.optimizer.step(closure)

    training.loop(clear=lambda: None, backward=lambda _: None, step=step)


def step_within_backward(training: Training) -> None:
    waiting: list[torch.Tensor] = []

    def arrived(p: torch.Tensor) -> None:
        waiting.append(p)
        if len(waiting) == len(list(training.model.parameters())):
            waiting.clear()
            training.optimizer.step()
            training.optimizer.zero_grad()

    for p in training.model.parameters():
        p.register_post_accumulate_grad_hook(arrived)  # type: ignore[no-untyped-call]  # torch does not say
    training.loop(clear=lambda: None, step=lambda _: None)


def step_of_another_amid_a_pass(training: Training) -> None:
    def another(_: torch.Tensor) -> None:
        w = torch.ones(2, requires_grad=True)
        w.grad = torch.ones(2)
        torch.optim.SGD([w], lr=0.1).step()

    def backward(update: int) -> None:
        loss = training.loss()
        if update in ODD:
            loss.register_hook(another)
        loss.backward()

    training.loop(backward=backward)


def assigned_by_hand(training: Training) -> None:
    def backward(_: int) -> None:
        parameters = list(training.model.parameters())
        for p, grad in zip(parameters, torch.autograd.grad(training.loss(), parameters), strict=True):
            p.grad = grad

    training.loop(backward=backward)


def _taken_away(training: Training) -> None:
    for p in training.model.parameters():
        p.grad = None


def taken_away_before_the_step(training: Training) -> None:
    training.loop(between=lambda update: _taken_away(training) if update in ODD else None)


def taken_away_between_two_passes(training: Training) -> None:
    def between(update: int) -> None:
        if update in ODD:
            _taken_away(training)
            training.loss().backward()

    training.loop(between=between)


def cleared_by_hand(training: Training) -> None:
    training.loop(clear=lambda: _taken_away(training))


def many_passes(training: Training) -> None:
    def backward(update: int) -> None:
        for _ in range(40 if update in ODD else 1):
            training.loss().backward()

    training.loop(backward=backward)


def many_clearings(training: Training) -> None:
    def backward(update: int) -> None:
        for _ in range(20 if update in ODD else 0):
            training.loss().backward()
            training.optimizer.zero_grad()
        training.loss().backward()

    training.loop(backward=backward)


def checkpointed(training: Training) -> None:
    def backward(_: int) -> None:
        x = torch.randn(4, 3, requires_grad=True)
        loss: Any = checkpoint(training.model, x, use_reentrant=True).square().mean()
        training.losses.append(loss.item())
        loss.backward()

    training.loop(backward=backward)


def first_frozen(training: Training) -> None:
    next(training.model.parameters()).requires_grad_(False)
    training.loop()


def first_frozen_with_zeros(training: Training) -> None:
    first = next(training.model.parameters()).requires_grad_(False)
    first.grad = torch.zeros_like(first)
    training.loop(clear=lambda: training.optimizer.zero_grad(set_to_none=False))


def first_frozen_with_zeros_others_cleared_by_hand(training: Training) -> None:
    first, *others = training.model.parameters()
    first.requires_grad_(False)
    first.grad = torch.zeros_like(first)

    def clear() -> None:
        for p in others:
            p.grad = None

    training.loop(clear=clear)


def first_frozen_on_the_way(training: Training) -> None:
    first = next(training.model.parameters())
    training.loop(after=lambda update: first.requires_grad_(update < UPDATES // 2))


def empty_first_group(training: Training) -> None:
    groups: list[dict[str, Any]] = [{"params": []}, {"params": list(training.model.parameters())}]
    training.optimizer = torch.optim.SGD(groups, lr=0.01)
    training.loop()


def group_added(training: Training) -> None:
    def after(update: int) -> None:
        if update == ODD[0]:
            training.optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})

    training.loop(after=after)


def evaluated_in_between(training: Training) -> None:
    def after(update: int) -> None:
        if update in ODD:
            with torch.no_grad():
                training.loss()
            training.optimizer.zero_grad()

    training.loop(after=after)


def watched_by_another(training: Training) -> None:
    inner = audit.watch()

    def after(update: int) -> None:
        if update == ODD[0]:
            inner.__enter__()
        elif update == ODD[2]:
            inner.__exit__(None, None, None)

    training.loop(after=after)


TRAININGS = {
    each.__name__: each
    for each in (
        usual,
        zeros,
        by_the_model,
        never_cleared,
        halved,
        accumulated,
        last_window_of_one_pass,
        last_window_divided_by_another_number,
        several_loaders,
        pass_of_another_model,
        first_windows_of_one_pass,
        clipped,
        scheduled,
        step_that_raises,
        backward_that_raises,
        backward_that_raises_half_way,
        step_within_step,
        closure_that_raises,
        closure_that_trains,
        step_within_backward,
        step_of_another_amid_a_pass,
        assigned_by_hand,
        taken_away_before_the_step,
        taken_away_between_two_passes,
        cleared_by_hand,
        many_passes,
        many_clearings,
        checkpointed,
        first_frozen,
        first_frozen_with_zeros,
        first_frozen_with_zeros_others_cleared_by_hand,
        first_frozen_on_the_way,
        empty_first_group,
        group_added,
        evaluated_in_between,
        watched_by_another,
    )
}


RARE = len(ODD)
TRACES: dict[Callable[[Training], None], dict[str, int]] = {  # by hand: number of updates by trace
    usual: {"zB": UPDATES},
    zeros: {"zB": UPDATES},
    by_the_model: {"zB": UPDATES},
    never_cleared: {"B": UPDATES},
    halved: {"B": UPDATES},
    first_windows_of_one_pass: {"zB": UPDATES // 2 - 1, "zBBBB": UPDATES - UPDATES // 2 + 1},
    clipped: {"zBc": UPDATES},
    scheduled: {"zB": 1, "szB": UPDATES - 1},
    step_that_raises: {"zB": UPDATES - RARE - 2, "zBzBzB": 1, "zBzB": 1},  # two in a row, then one
    closure_that_raises: {"zB": UPDATES - RARE - 2, "zBzBzB": 1, "zBzB": 1},
    backward_that_raises: {"zB": UPDATES - RARE, "z0": RARE},
    backward_that_raises_half_way: {"zB": UPDATES},
    step_within_step: {"zB": UPDATES},
    closure_that_trains: {"zL": UPDATES},
    step_of_another_amid_a_pass: {"zB": UPDATES - RARE, "zoB": RARE},
    assigned_by_hand: {"z": UPDATES},
    taken_away_before_the_step: {"zB": UPDATES - RARE, "zBn0": RARE},
    taken_away_between_two_passes: {"zB": UPDATES - RARE, "zBnB": RARE},
    cleared_by_hand: {"B": 1, "nB": UPDATES - 1},
    many_passes: {"zB": UPDATES - RARE, "z" + "B" * 40: RARE},
    many_clearings: {"zB": UPDATES - RARE, "zB" * 21: RARE},
    checkpointed: {"zB": UPDATES},
    first_frozen: {"zB": UPDATES},
    first_frozen_with_zeros: {"zB": UPDATES},
    first_frozen_with_zeros_others_cleared_by_hand: {"B": 1, "nB": UPDATES - 1},
    first_frozen_on_the_way: {"zB": UPDATES},
    empty_first_group: {"zB": UPDATES},
    group_added: {"zB": UPDATES},
    evaluated_in_between: {"zB": UPDATES},
    watched_by_another: {"zB": UPDATES},
}


class Seen(NamedTuple):
    """The results of a training and its history."""

    losses: list[float]
    history: History
    taken: set[bool]  # whether backward passes found a fast path


def seen(name: str, *, fast: bool) -> Seen:
    """Train under a watch, with or without fast paths."""
    taken = set()

    class Spy:
        """Replaces `Recorder.fast_path` and records its use."""

        def __get__(self, recorder: Any, _: object) -> Any:
            path = vars(recorder).get("fast_path")
            taken.add(path is not None)
            return path

        def __set__(self, recorder: Any, path: Any) -> None:
            vars(recorder)["fast_path"] = path if fast else None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "fast_path", Spy(), raising=False)
        patch.setattr(optimizers, "FIRST", 8)  # most updates of these short trainings are not measured
        with audit.watch() as report:
            training = Training()
            TRAININGS[name](training)
    return Seen(training.losses, report.history, taken)


@pytest.mark.parametrize("name", TRAININGS)
def test_fast_paths_record_what_the_full_way_records(name: str) -> None:
    plain = Training()
    TRAININGS[name](plain)
    fast, full = seen(name, fast=True), seen(name, fast=False)
    assert fast.losses == full.losses == plain.losses
    assert fast.history.faults == []
    assert fast.history == full.history
    if TRAININGS[name] in TRACES:
        assert noted(fast.history) == TRACES[TRAININGS[name]]


def noted(history: History) -> Counter[str]:
    """Return the number of updates by trace, without optimizers created during a training."""
    traces: Counter[str] = Counter()
    for optimizer in history.optimizers:
        for trace, times in optimizer.traces() if optimizer.parameters > 1 else ():
            traces[trace] += times
    return traces


def test_fast_paths_were_taken() -> None:
    assert seen("usual", fast=True).taken == {True, False}
    assert seen("usual", fast=False).taken == {False}


def test_a_thread_switch_as_a_step_ends_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may close the fast path at every call."""
    full, switches = seen("accumulated", fast=False), []
    original = Recorder.__init__

    def init(recorder: Recorder, *args: Any, **options: Any) -> None:
        class Switching(dict[int, int]):
            def copy(self) -> dict[int, int]:
                fast = recorder.fast_path
                if fast is not None and fast.busy is None:
                    switches.append(fast)
                    recorder._close_fast_path()
                    recorder.fast_path = None
                return dict(self)

        original(recorder, *args, **options)
        recorder.by_loader = Switching()

    monkeypatch.setattr(Recorder, "__init__", init)
    assert seen("accumulated", fast=True).history == full.history
    assert len(switches) > 5


def test_the_recorder_ends_no_usual_window_of_several_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []
    monkeypatch.setattr(optimizers, "FIRST", 8)
    original = Recorder.step_ended

    def step_ended(recorder: Recorder, optimizer: torch.optim.Optimizer) -> bool:
        ended.append(recorder.updates_of(optimizer) + 1)
        return original(recorder, optimizer)

    monkeypatch.setattr(Recorder, "step_ended", step_ended)
    with audit.watch() as report:
        _accumulated(Training(), 40)
    measured = {each.update for each in report.history.optimizers[0].measured}
    epochs = {update + 1 for update in range(0, UPDATES + 10, 10)}  # a window that begins with the end of an epoch
    assert set(ended) <= measured | {each - 1 for each in measured} | epochs | {each + 1 for each in epochs}


def test_the_other_gradients_are_looked_at_for_few_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    original = watched.gradients_in

    def counted(groups: Any) -> Any:
        looks.append(1)
        return original(groups)

    monkeypatch.setattr(usual_updates, "gradients_in", counted)
    for module in (fast_paths, usual_updates):
        monkeypatch.setattr(module, "CERTAIN", 5)
    monkeypatch.setattr(optimizers, "FIRST", 8)
    with audit.watch() as report:
        zeros(Training())
    assert len(looks) == 5
    assert noted(report.history) == {"zB": UPDATES}
