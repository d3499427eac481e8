"""Verify: every claim is answered as documented, and each has been seen to fail with the code beneath it broken."""

from __future__ import annotations

import importlib.util
import json
import re
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import torch
from rich.console import Console
from torch import nn
from typer.testing import CliRunner

from gradlab import modes, optimizers, verify
from gradlab.analysis import theory
from gradlab.cli import app
from gradlab.engines import loop
from gradlab.errors import ClaimError
from gradlab.terminal import claim_results as terminal
from gradlab.verify import CLAIMS, Claim, ClaimResult, Measurement
from gradlab.verify.training import small_noisy_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    Break = Callable[[pytest.MonkeyPatch], None]

ROOT = Path(__file__).parent.parent
NEEDS_TENSORFLOW = "gradient-tape-has-the-same-role"
CHEAP = ["backward-accumulates", "mean-of-means"]


@lru_cache
def found(name: str) -> ClaimResult:
    (finding,) = verify.verify([name])
    return finding


def one_worker_for_tensorflow(name: str, *more: object) -> Any:
    """Return the parameters of a test; TensorFlow is started once, with one number of threads, in one process."""
    marks = [pytest.mark.xdist_group("tensorflow"), pytest.mark.slow]
    return pytest.param(name, *more, marks=marks if name == NEEDS_TENSORFLOW else [])


# Every claim, as it is


@pytest.mark.parametrize("name", [one_worker_for_tensorflow(name) for name in CLAIMS])
def test_the_answer_is_the_documented_one_with_its_numbers(name: str) -> None:
    finding = found(name)
    assert finding.ok
    if finding.kind != "skipped":
        assert finding.answer == CLAIMS[name].documented
        assert finding.figures


@pytest.mark.parametrize("name", ["mean-of-means", "truncated-bptt", "printed-adam-example-runs"])
def test_a_claims_numbers_do_not_depend_on_earlier_claims(name: str) -> None:
    first = found(name)
    torch.manual_seed(12345)
    torch.rand(7)
    (second,) = verify.verify([name])
    assert second == first


# Every claim, with the code beneath it broken


def leaves(tensor: Tensor) -> Iterator[Tensor]:
    """Yield the tensors whose .grad a backward pass from here adds to."""
    waiting: list[Any] = [tensor.grad_fn]
    while waiting:
        if (node := waiting.pop()) is not None:
            if hasattr(node, "variable"):
                yield node.variable
            waiting += [each for each, _ in node.next_functions]


def backward_overwrites(patch: pytest.MonkeyPatch) -> None:
    backward: Callable[..., None] = torch.Tensor.backward

    def overwriting(tensor: Tensor, *args: Any, **options: Any) -> None:
        for leaf in leaves(tensor):
            leaf.grad = None
        backward(tensor, *args, **options)

    patch.setattr(torch.Tensor, "backward", overwriting)


# The two below break the training loop from within: nothing public decides what it leaves in `.grad`.


def training_always_clears(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(loop, "_keep_function", lambda _mode, optimizer, *_: optimizer.zero_grad)


def training_never_clears(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(loop, "_keep_function", lambda *_: lambda: None)


def always(set_to_none: bool) -> Break:
    clear = torch.optim.Optimizer.zero_grad

    def break_it(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(torch.optim.Optimizer, "zero_grad", lambda self, **_: clear(self, set_to_none))

    return break_it


def theory_says(**answers: object) -> Break:
    def break_it(patch: pytest.MonkeyPatch) -> None:
        for name, answer in answers.items():
            patch.setattr(theory, name, lambda *_args, answer=answer: answer)

    return break_it


def modes_become(**made: Callable[..., modes.Mode]) -> Break:
    def break_it(patch: pytest.MonkeyPatch) -> None:
        for name, factory in made.items():
            patch.setattr(modes, name, factory)

    return break_it


def module_zero_grad_does_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(nn.Module, "zero_grad", lambda _self: None)


def clipping_does_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(nn.utils, "clip_grad_norm_", lambda _parameters, _bound: None)


def vanilla_takes_longer_steps(patch: pytest.MonkeyPatch) -> None:
    make = optimizers.Vanilla.__init__
    patch.setattr(optimizers.Vanilla, "__init__", lambda self, parameters, lr: make(self, parameters, lr * 1.01))


def every_optimizer(change: Callable[[float], float]) -> Break:
    """Return what changes the lr of every optimizer."""
    build = optimizers.build

    def break_it(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(
            optimizers, "build", lambda name, weights, given: build(name, weights, given | {"lr": change(given["lr"])})
        )

    return break_it


def sgd_steps_have_one_length(patch: pytest.MonkeyPatch) -> None:
    def step(optimizer: torch.optim.SGD) -> None:
        (group,) = optimizer.param_groups
        length = torch.cat([w.grad.reshape(-1) for w in group["params"]]).norm()
        with torch.no_grad():
            for w in group["params"]:
                w -= group["lr"] * w.grad / length

    patch.setattr(torch.optim.SGD, "step", step)


def adam_is_sgd(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch.optim, "Adam", torch.optim.SGD)


def theory_grows_a_twentieth_faster(patch: pytest.MonkeyPatch) -> None:
    growth = theory.mean_square_growth
    patch.setattr(theory, "mean_square_growth", lambda *args: 1 + 1.05 * (growth(*args) - 1))


def tape_takes_longer_steps(patch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("tensorflow"):
        from gradlab.engines import tensorflow

        train = tensorflow.train
        patch.setattr(tensorflow, "train", lambda task, mode, lr, **ends: train(task, mode, lr * 1.01, **ends))


def tape_never_sums(patch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("tensorflow"):
        from gradlab.engines import tensorflow

        train = tensorflow.train
        patch.setattr(tensorflow, "train", lambda task, _mode, lr, **ends: train(task, cleared(), lr, **ends))


def adam_stands_still(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch.optim.Adam, "step", lambda _self: None)


def vectors_have_a_backward(patch: pytest.MonkeyPatch) -> None:
    backward: Callable[..., None] = torch.Tensor.backward
    patch.setattr(torch.Tensor, "backward", lambda tensor: backward(tensor.sum()))


accumulate, cleared = modes.accumulate, modes.zero_grad
never_divided = modes_become(accumulate=lambda every, **_: accumulate(every, mean=False))
always_by_items = modes_become(accumulate=lambda every, **_: accumulate(every))
always_by_batch = modes_become(accumulate=lambda every, **_: accumulate(every, by_batch=True))
halving_is_not = modes_become(halve_grad=lambda: modes.decay(0.51))
forgetting_is_not = modes_become(no_zero_grad=lambda: modes.decay(0.99))


def unscaling_divides_by_half_the_scale(patch: pytest.MonkeyPatch) -> None:
    unscale: Callable[..., None] = torch.amp.GradScaler.unscale_

    def unscaled_by_half(scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer) -> None:
        unscale(scaler, optimizer)
        for w in optimizer.param_groups[0]["params"]:
            w.grad.mul_(2)

    patch.setattr(torch.amp.GradScaler, "unscale_", unscaled_by_half)


BREAKS: dict[str, list[Break]] = {
    "backward-accumulates": [backward_overwrites],
    "kept-gradient-points-elsewhere": [backward_overwrites, training_always_clears],
    "zero-grad-cures-divergence": [training_always_clears],
    "unscale-divides-kept-gradients": [unscaling_divides_by_half_the_scale, training_always_clears],
    "set-to-none-saves-memory": [always(set_to_none=True), always(set_to_none=False)],
    "set-to-none-saves-time": [always(set_to_none=True)],
    "set-to-none-trains-the-same": [always(set_to_none=True), always(set_to_none=False)],
    "clear-before-backward-or-after-step": [training_never_clears],
    "optimizer-or-model-zero-grad": [module_zero_grad_does_nothing],
    "accumulation-equals-the-large-batch": [never_divided, backward_overwrites],
    "mean-of-means": [always_by_items, always_by_batch, never_divided],
    "truncated-bptt": [backward_overwrites],
    "clip-each-micro-batch": [clipping_does_nothing, never_divided],
    "printed-adam-example-runs": [adam_stands_still, vectors_have_a_backward],
    "halving-is-momentum-one-half": [halving_is_not],
    "forgetting-is-momentum-one": [forgetting_is_not, training_always_clears],
    "keep-is-momentum-always": [halving_is_not],
    NEEDS_TENSORFLOW: [tape_takes_longer_steps, tape_never_sums],
}

# Where circumstances and premises turn one by one: the whole answer that a break leads to, as a regular expression
TURNS: dict[str, dict[str, Break]] = {
    "loss-rises-without-zero-grad": {
        "unsettled: failed premise: with one random input .* as theory predicts": theory_grows_a_twentieth_faster,
        "holds": theory_says(conserved_quantity=1.0),
        "does not hold": every_optimizer(lambda lr: lr if lr >= 0.01 else lr / 1000),
    },
    "zero-grad-cures-divergence": {
        "holds when batches are full .*; not when batches are mini-batches .*": training_never_clears,
        "holds when .*, or batches are .* and the lr is too large; not when batches are full .*": every_optimizer(
            lambda lr: lr if lr > 1 else min(lr, 0.01)
        ),
        "unsettled: failed premise: theory predicts the same": theory_says(outcome="converges"),
    },
    "a-last-short-window": {
        "holds": sgd_steps_have_one_length,
        "unsettled: failed premise: gradlab divides each window by its own length": never_divided,
    },
    "vanilla-equals-sgd": {
        "does not hold": vanilla_takes_longer_steps,
        "unsettled: .* the last bits may differ": every_optimizer(lambda lr: lr * 1.01),
    },
    "halving-learns-faster": {
        "does not hold": modes_become(halve_grad=cleared),
        "holds": modes_become(halve_grad=lambda: modes.decay(0.52)),
        "unsettled: failed premise: at most a tenth of the gain is lost": modes_become(
            halve_grad=lambda: modes.decay(0.47)
        ),
        "unsettled: failed premise: halving at lr/2 has the effective lr of .*": theory_says(effective_lr=1.0),
    },
    "adam-forgives": {
        "holds": modes_become(no_zero_grad=cleared),
        "does not hold": modes_become(halve_grad=modes.no_zero_grad),
        "unsettled: failed premise: without zero_grad, the loss does not run away": adam_is_sgd,
    },
}


def test_every_claim_has_something_beneath_it_that_can_break() -> None:
    assert set(BREAKS) | set(TURNS) == set(CLAIMS)


@pytest.mark.parametrize(
    ("name", "nth"),
    [one_worker_for_tensorflow(name, nth) for name, breaks in BREAKS.items() for nth in range(len(breaks))],
)
def test_with_the_code_beneath_it_broken_the_claim_is_not_ok(
    name: str, nth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    BREAKS[name][nth](monkeypatch)
    (finding,) = verify.verify([name])
    if finding.kind == "skipped":
        pytest.skip(finding.answer)
    assert not finding.ok


@pytest.mark.slow
@pytest.mark.parametrize(("name", "answer"), [(name, answer) for name, turns in TURNS.items() for answer in turns])
def test_a_break_changes_only_the_answer_that_depends_on_it(
    name: str, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    TURNS[name][answer](monkeypatch)
    (finding,) = verify.verify([name])
    assert re.fullmatch(answer, finding.answer)
    assert not finding.ok


def test_a_task_in_float64_is_the_same_but_for_its_numbers() -> None:
    task, double = small_noisy_line(), small_noisy_line(double=True)
    assert isinstance(double.criterion, nn.MSELoss)
    x, y = next(iter(task.batches))
    off = task.loss(task.model, (x, y)).item() - double.loss(double.model, (x, y)).item()
    assert {each.dtype for each in double.model.parameters()} == {torch.float64}
    assert abs(off) < 1e-5  # float32, on a loss near 10


# What an answer is made of


class Case(NamedTuple):
    cases: dict[str, bool]
    answer: str


@pytest.mark.parametrize(
    "case",
    [
        Case({"": True}, "holds"),
        Case({"": False}, "does not hold"),
        Case({"a": True, "b": True}, "holds"),
        Case({"a": False, "b": False}, "does not hold"),
        Case({"a": True, "b": False}, "holds when a; not when b"),
        Case({"a": False, "b": True, "c": True, "d": False}, "holds when b, or c; not when a, or d"),
    ],
    ids=str,
)
def test_the_answer_follows_from_the_cases(case: Case) -> None:
    assert Measurement(case.cases, {}).answer == case.answer


def test_a_premise_that_is_not_so_leaves_the_claim_unsettled() -> None:
    assert Measurement({"": True}, {}, {"a": True, "b": False}).answer == "unsettled: failed premise: b"


def test_what_stops_a_measurement_is_a_finding_that_is_not_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, lambda: 1 / 0)
    (finding,) = verify.verify()
    assert (finding.answer, finding.ok) == ("not measured: ZeroDivisionError: division by zero", False)


def test_what_is_skipped_is_ok_and_says_what_would_help(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, lambda: Measurement({}, {}, skipped="pip install it"))
    (finding,) = verify.verify()
    assert (finding.answer, finding.kind, finding.ok) == ("skipped: pip install it", "skipped", True)


def test_a_measurement_restores_threads_and_generators() -> None:
    torch.set_num_threads(2)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    list(verify.verify(CHEAP))
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.rand(3), expected)


def test_claims_are_selected_with_either_dash_in_their_order() -> None:
    assert [claim.name for claim in verify.select(["Mean_of_means", "backward-accumulates"])] == CHEAP


def test_a_name_that_no_claim_has_is_an_error_with_a_guess() -> None:
    with pytest.raises(ClaimError, match="unknown claim 'mean-of-mean'; did you mean 'mean-of-means'"):
        verify.select(["mean-of-mean"])


# The documents


def test_the_document_has_every_claim_with_its_answer() -> None:
    text = (ROOT / "docs" / "verify.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+?) \| (.+?) \|", text, re.MULTILINE)
    assert rows == [(claim.name, claim.statement, claim.documented) for claim in CLAIMS.values()]


# The command


def answer_with(patch: pytest.MonkeyPatch, *measures: Callable[[], object]) -> None:
    """Put claims in the place of all others, documented to hold."""
    made = {f"claim-{nth}": Claim(f"claim-{nth}", "It is so.", "holds", m) for nth, m in enumerate(measures)}  # type: ignore[arg-type]  # some raise
    patch.setattr(verify, "CLAIMS", made)


def holds() -> Measurement:
    return Measurement({"": True}, {"ratio": 2.0, "limit": float("inf"), "word": "rises"})


def fails() -> Measurement:
    return Measurement({"": False}, {})


def only(*names: str) -> list[str]:
    return [word for name in names for word in ("--only", name)]


def test_the_command_exits_0_when_all_is_as_documented() -> None:
    done = CliRunner().invoke(app, ["verify", *only(*CHEAP)])
    assert done.exit_code == 0
    assert "2 claims: 1 holds, 1 does not hold; all as documented" in " ".join(done.stdout.split())
    assert done.stderr.splitlines() == ["claim 1/2 backward-accumulates", "claim 2/2 mean-of-means"]


def test_the_command_exits_1_and_reports_a_differing_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, holds, fails)
    done = CliRunner().invoke(app, ["verify"])
    assert done.exit_code == 1
    assert "The documented answer is: holds" in done.stdout
    assert "2 claims: 1 holds, 1 does not hold; not as documented: claim-1" in " ".join(done.stdout.split())


def test_an_unknown_name_exits_2_with_one_line() -> None:
    done = CliRunner().invoke(app, ["verify", "--only", "mean-of-mean"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("unknown claim 'mean-of-mean'; did you mean 'mean-of-means'?")
    assert done.stderr.count("\n") == 1


def test_json_is_one_strict_document_with_the_keys_of_the_design(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, holds)
    done = CliRunner().invoke(app, ["verify", "--json"])
    assert (done.exit_code, done.stderr) == (0, "")
    figures = {"ratio": 2.0, "limit": "inf", "word": "rises"}
    claim = {"name": "claim-0", "statement": "It is so.", "answer": "holds", "figures": figures, "ok": True}
    assert json.loads(done.stdout) == {"claims": [claim]}


def test_quiet_says_nothing_but_the_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, holds)
    assert not CliRunner().invoke(app, ["verify", "--quiet"]).stderr


@pytest.mark.parametrize("width", [80, 40])
def test_a_finding_fits_the_terminal_and_loses_no_word(width: int) -> None:
    assert CLAIMS
    for claim in CLAIMS.values():
        finding = ClaimResult(claim.name, claim.statement, claim.documented, {"a number": 1.5}, ok=True, documented="")
        console = Console(width=width, record=True, file=StringIO())
        console.print(terminal.claim_block(finding))
        text = console.export_text()
        assert max(map(len, text.splitlines())) <= width
        for words in (claim.statement, claim.documented, "1.5 a number"):
            assert words in " ".join(text.split())
