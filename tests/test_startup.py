"""Torch is imported with the garbage collector off; its optimizers, without the compiler, compute the same bits."""

from __future__ import annotations

import builtins
import copy
import gc
import io
import pickle
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim import optimizer as hooks

from gradlab import optimizers, startup
from gradlab.startup import import_torch, without_compiler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Kind = type[torch.optim.Optimizer]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what happens when torch seems not to have been imported."""
    noted: list[str] = []
    importing = builtins.__import__

    def noting(name: str, *others: object) -> object:
        if name != "torch":
            return importing(name, *others)  # type: ignore[arg-type]  # what Python passes
        noted.append(f"torch imported, collecting {gc.isenabled()}")
        return None

    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(builtins, "__import__", noting)
    monkeypatch.setattr(gc, "freeze", lambda: noted.append("frozen"))
    monkeypatch.setattr(startup, "OURS", True)
    return noted


@pytest.fixture
def _not_collecting() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def test_nothing_is_collected_while_torch_is_imported(seen: list[str]) -> None:
    import_torch()
    assert seen == ["torch imported, collecting False", "frozen"]
    assert gc.isenabled()


def test_nothing_is_frozen_in_a_callers_process(seen: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "OURS", False)
    import_torch()
    assert seen == ["torch imported, collecting False"]


@pytest.mark.usefixtures("_not_collecting")
def test_a_collector_that_was_off_stays_off(seen: list[str]) -> None:
    import_torch()
    assert seen
    assert not gc.isenabled()


def test_where_torch_is_there_nothing_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "freeze", lambda: pytest.fail("what others made is frozen"))
    assert "torch" in sys.modules
    import_torch()


NAMES = [name for name in optimizers.names() if name != "vanilla"]


STEPS = 20


REPLACED = {"add_param_group", "load_state_dict", "state_dict", "zero_grad"}


NO_GRAD = {"Adafactor", "Muon", "SparseAdam"}  # torch only puts no_grad() around their step, which imports nothing


def torchs(name: str) -> Any:
    return getattr(torch.optim, name)


def weights() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(3, 2, generator=generator)) for _ in range(3)]


def made(kind: Callable[..., Any]) -> Any:
    """Return an optimizer with two groups, the second one at another learning rate."""
    one, other, late = weights()
    optimizer = kind([{"params": [one]}, {"params": [other], "lr": 0.02}], lr=0.01)
    optimizer.add_param_group({"params": [late], "lr": 0.03})
    return optimizer


def parameters(optimizer: Any) -> list[nn.Parameter]:
    return [each for group in optimizer.param_groups for each in group["params"]]


def trained(optimizer: Any, *, sparse: bool, begin: int = 0, end: int = STEPS) -> Any:
    """Take steps along gradients that depend on the step alone."""
    for step in range(begin, end):
        generator = torch.Generator().manual_seed(step)
        for each in parameters(optimizer):
            grad = torch.randn(each.shape, generator=generator)
            each.grad = grad.to_sparse(1) if sparse else grad
        optimizer.step()
        optimizer.zero_grad(set_to_none=step % 2 == 0)
    return optimizer


def same(one: Any, other: Any) -> bool:
    """Say whether two states are equal, tensors by their bits."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(each, other[key]) for key, each in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def equal(one: Any, other: Any) -> bool:
    """Say whether two optimizers hold the same parameters and the same state."""
    return same(parameters(one), parameters(other)) and same(one.state_dict(), other.state_dict())


@pytest.mark.parametrize("name", NAMES)
def test_the_compiler_hooks_of_every_optimizer_are_replaced(name: str) -> None:
    startup._subclass.cache_clear()  # torch puts its hooks into the class once an optimizer is made of it
    step = set() if name in NO_GRAD else {"step"}
    assert vars(without_compiler(torchs(name))).keys() & {*REPLACED, "step"} == REPLACED | step


@pytest.mark.parametrize("name", NAMES)
def test_twenty_steps_are_those_of_torch(name: str) -> None:
    ours, theirs = (
        trained(made(kind), sparse="Sparse" in name) for kind in (without_compiler(torchs(name)), torchs(name))
    )
    assert not same(parameters(ours), weights())
    assert equal(ours, theirs)


@pytest.mark.parametrize("name", NAMES)
def test_steps_after_a_loaded_state_are_those_of_torch(name: str) -> None:
    sparse = "Sparse" in name

    def resumed(kind: Callable[..., Any]) -> Any:
        before = trained(made(kind), sparse=sparse, end=10)
        content = io.BytesIO()
        torch.save(before.state_dict(), content)
        content.seek(0)
        after = made(kind)
        after.load_state_dict(torch.load(content, weights_only=True))
        with torch.no_grad():
            for each, moved in zip(parameters(after), parameters(before), strict=True):
                each.copy_(moved)
        return trained(after, sparse=sparse, begin=10)

    assert equal(resumed(without_compiler(torchs(name))), resumed(torchs(name)))


@pytest.mark.parametrize("name", ["SGD", "Adam", "SparseAdam"])
def test_hooks_are_called_as_often_as_those_of_torch(name: str) -> None:
    def called(kind: Callable[..., Any]) -> list[str]:
        seen: list[str] = []
        optimizer = made(kind)
        optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
        optimizer.register_step_post_hook(lambda *_: seen.append("after"))
        optimizer.register_state_dict_pre_hook(lambda *_: seen.append("state"))
        optimizer.register_load_state_dict_post_hook(lambda *_: seen.append("loaded"))
        handle = hooks.register_optimizer_step_pre_hook(lambda *_: seen.append("any"))
        try:
            trained(optimizer, sparse="Sparse" in name, end=2)
        finally:
            handle.remove()
        optimizer.load_state_dict(optimizer.state_dict())
        return seen

    expected = ["any", "before", "after"] * 2 + ["state", "loaded"]
    assert called(without_compiler(torchs(name))) == called(torchs(name)) == expected


@pytest.mark.parametrize("name", ["SGD", "Adam", "SparseAdam"])
def test_the_profiler_sees_the_names_of_torch(name: str) -> None:
    optimizer = made(without_compiler(torchs(name)))
    with torch.autograd.profiler.profile() as profile:
        trained(optimizer, sparse="Sparse" in name, end=1)
    seen = {event.name for event in profile.function_events or []}
    assert {f"Optimizer.step#{name}.step", f"Optimizer.zero_grad#{name}.zero_grad"} <= seen


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.SparseAdam])
def test_a_closure_is_evaluated_with_gradients(kind: Kind) -> None:
    optimizer = made(without_compiler(kind))
    assert optimizer.step(lambda: torch.is_grad_enabled()) is True
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("differentiable", [False, True])
def test_a_step_has_a_graph_only_if_it_is_differentiable(differentiable: bool) -> None:
    moved = torch.ones(2, requires_grad=True).clone()  # what has a graph is updated in place under it
    moved.grad = torch.ones(2)
    optimizer = without_compiler(torch.optim.SGD)([nn.Parameter(moved)], lr=0.1, differentiable=differentiable)
    optimizer.param_groups[0]["params"] = [moved]
    optimizer.step()
    assert ("AddBackward0" in str(moved.grad_fn)) == differentiable


def test_a_schedule_counts_the_steps_and_does_not_warn() -> None:
    optimizer = made(without_compiler(torch.optim.SGD))
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda update: 1 / (1 + update))
    trained(optimizer, sparse=False, end=1)
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.005, 0.01, 0.015]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])  # noqa: S301 - ours
def test_a_copy_is_one_of_torch_and_steps_alike(copied: Callable[[Any], Any]) -> None:
    before = trained(made(without_compiler(torch.optim.Adam)), sparse=False, end=10)
    after = copied(before)
    assert type(after) is torch.optim.Adam
    assert equal(trained(after, sparse=False, begin=10), trained(before, sparse=False, begin=10))


@pytest.mark.parametrize("name", NAMES)
def test_name_and_text_are_those_of_torch(name: str) -> None:
    ours, theirs = made(without_compiler(torchs(name))), made(torchs(name))
    kinds = type(ours), type(theirs)
    assert [(each.__module__, each.__qualname__) for each in kinds] == [(torchs(name).__module__, name)] * 2
    assert repr(ours) == repr(theirs)


def test_the_class_of_an_optimizer_is_made_once() -> None:
    assert without_compiler(torch.optim.SGD) is without_compiler(torch.optim.SGD) is not torch.optim.SGD


def test_nothing_of_torch_is_changed() -> None:
    kinds = [torch.optim.Optimizer, torch.optim.SGD, torch.optim.Adagrad, torch.optim.SparseAdam]
    before = [dict(vars(kind)) for kind in kinds]
    for kind in kinds[1:]:
        trained(made(without_compiler(kind)), sparse=kind is torch.optim.SparseAdam, end=2)
    assert [dict(vars(kind)) for kind in kinds] == before


@pytest.mark.parametrize("name", ["step", "zero_grad"])
def test_the_newest_patch_of_a_method_is_inherited(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.optim.SGD, name, lambda _self: "patched")
    assert getattr(made(without_compiler(torch.optim.SGD)), name)() == "patched"
    monkeypatch.setattr(torch.optim.SGD, name, lambda _self: "patched again")
    assert getattr(made(without_compiler(torch.optim.SGD)), name)() == "patched again"


def test_a_class_without_provisions_is_itself() -> None:
    class Own(torch.optim.Optimizer):
        def step(self, closure: Any = None) -> None: ...  # type: ignore[override]
        def zero_grad(self, set_to_none: bool = True) -> None: ...
        def state_dict(self) -> dict[str, Any]: ...  # type: ignore[empty-body]
        def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...
        def add_param_group(self, param_group: dict[str, Any]) -> None: ...

    assert without_compiler(Own) is Own


def test_while_torch_compiles_the_class_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert without_compiler(torch.optim.SGD) is torch.optim.SGD
