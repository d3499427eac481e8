"""Optimizers: names and options read from torch's source are those of torch itself."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
import torch
from torch import nn

from gradlab import optimizers
from gradlab.annotations import wanted_kind
from gradlab.errors import OptimizerError

REAL = {
    name: each
    for name, each in vars(torch.optim).items()
    if isinstance(each, type) and issubclass(each, torch.optim.Optimizer) and each is not torch.optim.Optimizer
}


NAMES = sorted(set(REAL) - {"LBFGS"})


def parameter(*content: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(content, dtype=torch.float32))


# Names


def test_the_names_are_vanilla_and_torchs_without_lbfgs() -> None:
    assert sorted(optimizers.names()) == sorted([*NAMES, "vanilla"])


def test_the_names_are_sorted_after_vanilla() -> None:
    first, *rest = optimizers.names()
    assert first == "vanilla"
    assert rest == sorted(set(rest), key=str.lower)


@pytest.mark.parametrize("name", [*NAMES, "vanilla"])
def test_a_name_is_found_however_it_is_written(name: str) -> None:
    written = [name, name.lower(), name.upper(), f" {name} ", "_".join(name), "-".join(name)]
    assert [optimizers.find(each) for each in written] == [name] * len(written)


def test_a_mistyped_optimizer_is_answered_with_the_nearest() -> None:
    with pytest.raises(OptimizerError) as raised:
        optimizers.find("adamm")
    known = ", ".join(optimizers.names())
    assert str(raised.value) == f"unknown optimizer 'adamm'; did you mean 'Adam'? Known: {known}, FILE.py:NAME"


@pytest.mark.parametrize("name", ["Optimizer", "lr_scheduler", "swa_utils", "_functional", "", "torch.optim.SGD"])
def test_what_torch_optim_holds_besides_is_no_optimizer(name: str) -> None:
    with pytest.raises(OptimizerError, match=re.escape(f"unknown optimizer '{name}'")):
        optimizers.find(name)


@pytest.mark.parametrize("name", ["LBFGS", "lbfgs", "L-BFGS"])
def test_lbfgs_is_refused_with_the_reason_and_what_would_work(name: str) -> None:
    with pytest.raises(
        OptimizerError, match=r"'LBFGS' is not supported: it evaluates the loss several times .* Try SGD"
    ):
        optimizers.find(name)


# Options


@pytest.mark.parametrize("name", NAMES)
def test_the_options_are_those_that_the_class_takes(name: str) -> None:
    with pytest.raises(OptimizerError) as raised:
        optimizers.check_options(name, {"none of them": 1})
    known = str(raised.value).rpartition("Known: ")[2].split(", ")
    assert known == sorted(set(inspect.signature(REAL[name]).parameters) - {"params"})


@pytest.mark.parametrize("name", NAMES)
def test_every_option_of_the_class_is_accepted(name: str) -> None:
    defaults = {
        option: each.default for option, each in inspect.signature(REAL[name]).parameters.items() if option != "params"
    }
    optimizers.check_options(name, {key: value for key, value in defaults.items() if value is not None} | {"lr": 1})
    with pytest.raises(OptimizerError, match="unknown option 'params'"):
        optimizers.check_options(name, {"params": 1})


@pytest.mark.parametrize(
    ("name", "option", "value", "wanted"),
    [
        ("Adam", "betas", 0.9, "a list of 2 numbers, got 0.9"),
        ("Adam", "betas", [0.9], "a list of 2 numbers, got [0.9]"),
        ("Adam", "betas", [0.9, "x"], "a list of 2 numbers, got [0.9, 'x']"),
        ("Rprop", "etas", [0.5, 1.2, 3], "a list of 2 numbers, got [0.5, 1.2, 3]"),
        ("Adam", "eps", "abc", "a number, got 'abc'"),
        ("SGD", "nesterov", 3, "true or false, got 3"),
        ("SGD", "foreach", "maybe", "true or false, got 'maybe'"),
        ("SGD", "weight_decay", True, "a number, got true"),
        ("SGD", "momentum", [0.9], "a number, got [0.9]"),
        ("vanilla", "lr", "fast", "a number, got 'fast'"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_with_the_right_one(
    name: str, option: str, value: object, wanted: str
) -> None:
    with pytest.raises(OptimizerError) as raised:
        optimizers.check_options(name, {option: value})
    assert str(raised.value) == f"optimizer '{name}': option {option} must be {wanted}"


@pytest.mark.parametrize(
    ("annotation", "value", "wanted"),
    [
        ("Union[float, Tensor]", "x", "a number"),  # as torch before 2.8 writes it
        ("Optional[bool]", 3, "true or false"),
        ("Tuple[Union[float, Tensor], Union[float, Tensor]]", [0.9], "a list of 2 numbers"),
        ("tuple[float, float, float]", [1, 2.0, 3], None),
        ("ParamsT", 3, None),
        ("", "x", None),
    ],
)
def test_an_unknown_annotation_is_left_to_torch(annotation: str, value: object, wanted: str | None) -> None:
    # `check_options` knows the spellings of the installed torch only
    assert wanted_kind(annotation, value) == (wanted or "")


def test_an_unknown_option_is_answered_with_the_nearest() -> None:
    with pytest.raises(OptimizerError) as raised:
        optimizers.check_options("SGD", {"lr": 0.1, "momentun": 0.9})
    known = ", ".join(sorted(set(inspect.signature(torch.optim.SGD).parameters) - {"params"}))
    assert str(raised.value) == (
        f"optimizer 'SGD': unknown option 'momentun'; did you mean 'momentum'? Known: {known}"
    )


def test_vanilla_takes_a_learning_rate_and_nothing_else() -> None:
    optimizers.check_options("vanilla", {"lr": 0.1})
    with pytest.raises(OptimizerError, match=r"optimizer 'vanilla': unknown option 'momentum'\. Known: lr"):
        optimizers.check_options("vanilla", {"momentum": 0.9})


# Building


@pytest.mark.parametrize("name", NAMES)
def test_what_is_built_is_torchs_optimizer_with_that_lr(name: str) -> None:
    built = optimizers.build(name, [nn.Parameter(torch.ones(2, 2))], {"lr": 0.25})
    assert isinstance(built, REAL[name])
    assert type(built).__name__ == name
    assert [group["lr"] for group in built.param_groups] == [0.25]


def test_options_reach_the_optimizer_lists_as_tuples() -> None:
    built = optimizers.build("Adam", [parameter(1)], {"lr": 0.1, "betas": [0.5, 0.75], "weight_decay": 0.125})
    assert isinstance(built, torch.optim.Adam)
    assert (built.defaults["betas"], built.defaults["weight_decay"]) == ((0.5, 0.75), 0.125)


@pytest.mark.parametrize("name", ["SGD", "vanilla"])
def test_a_frozen_parameter_is_left_out(name: str) -> None:
    frozen, trained = parameter(1), parameter(1)
    frozen.requires_grad = False
    built = optimizers.build(name, [frozen, trained], {"lr": 0.5})
    frozen.grad, trained.grad = torch.ones(1), torch.ones(1)
    built.step()
    assert (frozen.item(), trained.item()) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("name", "options", "fragment"),
    [
        ("SGD", {"momentum": -1.0}, "Invalid momentum value: -1.0"),
        ("SGD", {"nesterov": True}, "Nesterov momentum requires a momentum"),
        ("SGD", {"momentum": "heavy"}, "'<' not supported"),
        ("Adam", {"betas": [1.5, 0.9]}, "Invalid beta parameter"),
        ("Adam", {"betas": 0.9}, "not subscriptable"),
        ("Adam", {"betas": [0.9]}, "out of range"),
        ("Adam", {"fused": True, "foreach": True}, "cannot be `True` together"),
    ],
)
def test_a_value_that_torch_refuses_is_an_optimizer_error(name: str, options: dict[str, Any], fragment: str) -> None:
    with pytest.raises(OptimizerError, match=rf"optimizer '{name}': .*{re.escape(fragment)}"):
        optimizers.build(name, [parameter(1)], {"lr": 0.1, **options})


def test_sparse_adam_takes_sparse_gradients_only() -> None:
    dense, table = parameter(1), nn.Embedding(3, 1, sparse=True)
    optimizer = optimizers.build("SparseAdam", [dense, *table.parameters()], {"lr": 0.25})
    before = table.weight.detach().clone()
    table(torch.tensor([1])).sum().backward()
    optimizer.step()
    # The first step of Adam is lr along the sign of the gradient, but for its epsilon of 1e-8.
    assert torch.allclose(before - table.weight, torch.tensor([[0.0], [0.25], [0.0]]), rtol=0, atol=1e-6)
    dense.grad = torch.ones(1)
    with pytest.raises(OptimizerError, match=r"^optimizer 'SparseAdam' needs sparse gradients, .* Try Adam$"):
        optimizer.step()


@pytest.mark.skipif("Muon" not in REAL, reason="torch has it since 2.9")
def test_muon_refuses_what_is_no_matrix_in_a_line() -> None:
    with pytest.raises(OptimizerError, match=r"^optimizer 'Muon': Muon only supports 2D parameters .*\[2\]\)$"):
        optimizers.build("Muon", [parameter(1, 2)], {"lr": 0.1})


# Vanilla


def test_vanilla_moves_parameters_by_lr_times_gradient() -> None:
    moved, still = parameter(1, 2), parameter(3)
    moved.grad = torch.tensor([4.0, -8.0])
    optimizers.Vanilla([moved, still], lr=0.25).step()
    assert (moved.tolist(), still.tolist()) == ([0.0, 4.0], [3.0])


def test_vanilla_clears_a_gradient_to_none_or_to_zeros() -> None:
    w, unused = parameter(1, 2), parameter(3)
    vanilla = optimizers.Vanilla([w, unused], lr=0.1)
    w.grad = torch.ones(2)
    kept = w.grad
    vanilla.zero_grad(set_to_none=False)
    assert (kept.tolist(), w.grad is kept, unused.grad) == ([0.0, 0.0], True, None)
    vanilla.zero_grad()
    assert w.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_step_of_vanilla_is_one_of_sgd_bit_for_bit(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    start, gradient = torch.randn(2, 1000, generator=generator, dtype=dtype)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    ours.grad, theirs.grad = gradient.clone(), gradient.clone()
    optimizers.Vanilla([ours], lr=0.01).step()
    torch.optim.SGD([theirs], lr=0.01).step()
    assert torch.equal(ours, theirs)
