"""How a mode is imposed on a script, checked, refused and logged."""

from __future__ import annotations

import gc
import math
import sys
import textwrap
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from gradlab import modes
from gradlab.comparison import checking, doubts, refusals
from gradlab.comparison.imposing import Imposing, Limits
from tests.comparison.imposed_runs import run_source

LOOP = """
for _ in range(12):
    optimizer.zero_grad()
    loss = loss_of()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
"""


def by_hand(loop: str) -> list[float]:
    """Return the losses of a script without any mode."""
    losses: list[float] = run_source(loop, None).left["losses"]
    return losses


# Modes


def test_a_user_mode_is_called_on_what_is_kept_only(tmp_path: Any) -> None:
    (tmp_path / "mine.py").write_text(
        "def thirds(parameters, update):\n    for p in parameters:\n        p.grad /= 3 if update % 2 else 4\n",
        encoding="utf-8",
    )
    source = LOOP + "    norms = [p.grad.norm().item() for p in model.parameters()]\n"
    run = run_source(source, f"{tmp_path / 'mine.py'}:thirds")
    wanted = by_hand(
        LOOP.replace("    optimizer.zero_grad()\n", "")
        + "    for p in model.parameters():\n        p.grad = p.grad / (3 if _ % 2 else 4)\n"
    )
    assert run.left["losses"] == wanted
    assert (run.imposed, run.good) == ("yes", 12)


def test_zeros_are_left_where_the_mode_says_so() -> None:
    source = """
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, weight_decay=0.1)
    for nth in range(12):
        optimizer.zero_grad()
        loss = loss_of() if nth < 6 else nn.functional.mse_loss(model[2](x @ torch.ones(3, 5)), y)
        loss.backward()
        optimizer.step()
        losses.append(model[0].weight.sum().item())
    """
    by_zeros = by_hand(source.replace("zero_grad()", "zero_grad(set_to_none=False)"))
    assert run_source(source, "zero_grad:fill").left["losses"] == by_zeros
    assert run_source(source, "zero_grad").left["losses"] == by_hand(source) != by_zeros


@pytest.mark.parametrize(("mode", "by"), [("accumulate:3", 3), ("accumulate:3:sum", 1)])
def test_every_nth_step_is_taken(mode: str, by: int) -> None:
    wanted = by_hand(f"""
    for nth in range(1, 13):
        loss = loss_of()
        (loss / {by}).backward()
        losses.append(loss.item())
        if nth % 3 == 0:
            optimizer.step()
            optimizer.zero_grad()
    """)
    run = run_source(LOOP, mode)
    assert run.left["losses"] == run.losses == wanted
    assert [row.update for row in run.rows] == [nth // 3 for nth in range(12)]
    assert (run.imposed, run.imposing.updates) == ("yes", 4)
    assert run.imposing.doubts.remarks() == ["windows continue across epochs"]


def test_accumulation_and_keep_combine() -> None:
    wanted = by_hand("""
    for nth in range(1, 13):
        loss = loss_of()
        (loss / 3).backward()
        losses.append(loss.item())
        if nth % 3 == 0:
            optimizer.step()
            for p in model.parameters():
                p.grad = p.grad * 0.5
    """)
    assert run_source(LOOP, "keep=0.5,every=3").left["losses"] == wanted


ACCUMULATING = {
    "scheduler": (
        "scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 100)" + LOOP + "    scheduler.step()\n",
        "a learning-rate scheduler steps after every batch",
    ),
    "clipping": (
        LOOP.replace(
            "    optimizer.step()", "    nn.utils.clip_grad_norm_(model.parameters(), 0.01); optimizer.step()"
        ),
        "clips or changes gradients within a window",
    ),
    "scaler": (
        "scaler = torch.amp.GradScaler('cpu', init_scale=4.0)"
        + LOOP.replace("loss.backward()", "scaler.scale(loss).backward()").replace(
            "optimizer.step()", "scaler.step(optimizer); scaler.update()"
        ),
        "the GradScaler may skip an update",
    ),
}


@pytest.mark.parametrize("name", ACCUMULATING)
def test_windows_that_hold_only_in_part_are_approximate(name: str) -> None:
    source, why = ACCUMULATING[name]
    run = run_source(source, "accumulate:3")
    (doubt,) = run.imposing.doubts.found(run.imposing.optimizers)
    assert why in doubt
    assert run.imposed == "approximate"
    assert run.imposing.updates == 4


def test_a_scheduler_per_epoch_is_no_doubt() -> None:
    source = (
        "scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)" + LOOP + "    if _ % 6 == 5: scheduler.step()\n"
    )
    assert run_source(source, "accumulate:3").imposed == "yes"


def test_accumulation_divides_a_given_gradient() -> None:
    source = LOOP.replace("loss.backward()", "torch.autograd.backward(loss, grad_tensors=torch.tensor(2.0))")
    wanted = by_hand(
        source.replace("optimizer.zero_grad()", "optimizer.zero_grad() if _ % 2 == 0 else None")
        .replace("torch.tensor(2.0)", "torch.tensor(2.0) / 2")
        .replace("    optimizer.step()", "    optimizer.step() if _ % 2 else None")
    )
    assert run_source(source, "accumulate:2").left["losses"] == wanted


def test_a_loss_that_is_no_scalar_still_fails_under_accumulation() -> None:
    with pytest.raises(RuntimeError, match="scalar outputs"):
        run_source("model(x).backward()", "accumulate:2")


# Optimizers


TWO = """
other = nn.Linear(3, 1)
second = torch.optim.SGD(other.parameters(), lr=0.05)
for nth in range(12):
    optimizer.zero_grad(); second.zero_grad()
    loss = loss_of() + nn.functional.mse_loss(other(x), y)
    loss.backward()
    optimizer.step(); second.step()
    losses.append(loss.item())
"""


@pytest.mark.parametrize(("only", "cleared"), [(1, "second"), (2, "optimizer")])
def test_one_optimizer_alone(only: int, cleared: str) -> None:
    wanted = by_hand(TWO.replace("optimizer.zero_grad(); second.zero_grad()", f"{cleared}.zero_grad()"))
    run = run_source(TWO, "no_zero_grad", only=only)
    assert run.left["losses"] == wanted
    assert run.good == 12


def test_optimizers_are_numbered_by_class_and_parameters() -> None:
    source = """
    for _ in range(4):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        loss_of().backward()
        optimizer.step()
    other = torch.optim.Adam(model.parameters())
    """
    run = run_source(source, "halve_grad")
    assert run.imposing.optimizers.created == 2
    assert len(run.imposing.optimizers.imposed) == 1
    assert run.good == 4


def test_a_copied_optimizer_is_known_at_its_first_step() -> None:
    source = """
    import copy
    model, optimizer = copy.deepcopy((model, optimizer))
    """
    run = run_source(textwrap.dedent(source) + LOOP, "no_zero_grad")
    assert run.left["losses"] == by_hand(LOOP.replace("optimizer.zero_grad()", "pass"))
    assert run.imposed == "yes"


def test_parameters_of_past_trials_are_released() -> None:
    source = """
    import weakref
    seen = []
    for _ in range(5):
        model = nn.Linear(3, 1)
        optimizer = torch.optim.Adam(model.parameters())
        for _ in range(3):
            nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
        seen.append(weakref.ref(model.weight))
    loss = None
    """
    run = run_source(source, "halve_grad")
    gc.collect()
    assert [each() is None for each in run.left["seen"]] == [True] * 4 + [False]
    assert (run.imposed, run.good) == ("yes", 15)


def test_a_parameter_on_another_type_is_watched_again() -> None:
    source = LOOP.replace("loss.backward()", "model.double() if _ == 3 else None; loss = loss_of(); loss.backward()")
    source = (
        "loss_of = lambda: nn.functional.mse_loss(model(x.to(model[0].weight.dtype)), y.to(model[0].weight.dtype))"
        + source
    )
    run = run_source(source, "zero_grad")
    assert (run.imposed, run.good) == ("yes", 12)


@pytest.mark.parametrize(
    "backward", ["loss.backward(inputs=list(model[2].parameters()))", "loss.backward(create_graph=True)"]
)
@pytest.mark.filterwarnings("ignore:Using backward")
def test_special_backward_passes(backward: str) -> None:
    source = LOOP.replace("loss.backward()", backward)
    run = run_source(source, "halve_grad")
    kept = "[setattr(p, 'grad', p.grad.detach() / 2 if p.grad is not None else None) for p in model.parameters()]"
    assert run.left["losses"] == by_hand(source.replace("optimizer.zero_grad()", kept))
    assert run.imposed == "yes"


def test_changes_by_a_hook_after_accumulation_are_no_faults() -> None:
    source = (
        "def clamp(p): p.grad.clamp_(-0.1, 0.1)\n"
        "[p.register_post_accumulate_grad_hook(clamp) for p in model.parameters()]" + LOOP
    )
    run = run_source(source, "halve_grad")
    assert (run.imposed, run.good) == ("yes", 12)


def test_a_failed_backward_pass_can_be_repeated() -> None:
    source = """
    class Fails(torch.autograd.Function):
        calls = 0
        @staticmethod
        def forward(ctx, x):
            return x.clone()
        @staticmethod
        def backward(ctx, grad):
            Fails.calls += 1
            if Fails.calls % 3 == 0:
                raise RuntimeError("again")
            return grad
    for _ in range(12):
        for attempt in range(2):
            optimizer.zero_grad()
            loss = Fails.apply(loss_of())
            try:
                loss.backward()
                break
            except RuntimeError:
                pass
        optimizer.step()
        losses.append(loss.item())
    """
    run = run_source(source, "no_zero_grad")
    assert run.left["losses"] == by_hand(LOOP.replace("optimizer.zero_grad()", "pass"))
    assert run.imposed == "yes"


# The check


def test_the_check_sees_a_share_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    from gradlab.comparison import gradients, imposed

    real = gradients.scaled
    monkeypatch.setattr(imposed, "scaled", lambda grads, factors: real(grads, tuple(0.9 * each for each in factors)))
    run = run_source(LOOP, "halve_grad")
    assert run.imposed == "no"
    assert run.faults == {checking.LOST: 11}


def test_the_check_sees_that_nothing_was_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from gradlab.comparison.imposed import ImposedOptimizer

    source = LOOP.replace(
        "    loss = loss_of()\n", "    loss = loss_of(); loss.backward(); optimizer.zero_grad(); loss = loss_of()\n"
    )
    assert run_source(source, "halve_grad").imposed == "yes"
    monkeypatch.setattr(ImposedOptimizer, "_put_back", lambda _: None)
    assert run_source(source, "halve_grad").imposed == "no"


def test_late_clearing_before_the_step_is_seen() -> None:
    source = LOOP.replace("range(12)", "range(400)").replace(
        "    optimizer.step()", "    optimizer.zero_grad() if _ >= 200 else None; optimizer.step()"
    )
    run = run_source(source, "halve_grad")
    assert run.imposed == "no"
    assert run.faults == {checking.CLEARED: 200}


def test_late_replacing_before_the_step_is_seen() -> None:
    late = "[setattr(p, 'grad', torch.randn_like(p)) for p in model.parameters()] if _ >= 200 else None"
    source = LOOP.replace("range(12)", "range(400)").replace("    optimizer.step()", f"    {late}; optimizer.step()")
    run = run_source(source, "halve_grad")
    assert run.imposed == "no"
    assert run.faults == {checking.REPLACED: 200}
    assert run.share == 0.5


def test_a_change_that_is_never_compared_is_a_fault() -> None:
    once = "[p.grad.mul_(2) for p in model.parameters()] if _ == 300 else None"
    source = LOOP.replace("range(12)", "range(400)").replace("    optimizer.step()", f"    {once}; optimizer.step()")
    run = run_source(source, "zero_grad")
    assert (run.imposed, run.faults) == ("approximate", {checking.NOT_COMPARED: 1})


@pytest.mark.parametrize("mode", ["zero_grad", "halve_grad"])
@pytest.mark.parametrize("rate", ["0.05", "0.0001"])
def test_the_last_gradient_added_by_hand_is_seen(mode: str, rate: str) -> None:
    start = (
        f"optimizer.param_groups[0]['lr'] = {rate}; last = {{p: torch.zeros_like(p) for p in model.parameters()}}\n"
    )
    add = "[last.update({p: p.grad.add_(last[p], alpha=0.5).clone()}) for p in model.parameters()]"
    run = run_source(start + LOOP.replace("    optimizer.step()", f"    {add}; optimizer.step()"), mode)
    assert (run.imposed, run.faults) == ("no", {checking.ADDED: 11})


def test_other_changes_before_the_step_are_a_doubt() -> None:
    noise = "[p.grad.add_(0.001 * torch.randn_like(p)) for p in model.parameters()]"
    run = run_source(LOOP.replace("    optimizer.step()", f"    {noise}; optimizer.step()"), "halve_grad")
    assert (run.imposed, run.share, run.reason) == ("approximate", 1.0, doubts.BEFORE_STEP)


def test_old_gradients_changed_within_the_window_are_seen() -> None:
    change = "old = [p.grad for p in model.parameters()]"
    within = (
        "loss.backward(); [each.zero_() for each in old]; optimizer.zero_grad(); loss = loss_of(); loss.backward()"
    )
    source = LOOP.replace("    optimizer.zero_grad()\n", f"    {change}; optimizer.zero_grad()\n", 1).replace(
        "    loss.backward()\n", f"    {within}\n"
    )
    source = loss_once(source)
    assert run_source(source, "halve_grad").faults == {checking.LOST: 11}


def loss_once(source: str) -> str:
    """Give all parameters a gradient before the loop, so that there are old ones from the start."""
    return "loss_of().backward()\n" + source


@pytest.mark.parametrize(
    "change",
    [
        "nn.utils.clip_grad_norm_(model.parameters(), 0.05)",
        "nn.utils.clip_grad_value_(model.parameters(), 0.05)",
        "[setattr(p, 'grad', p.grad / p.grad.norm()) for p in model.parameters()]",
    ],
)
def test_the_scripts_own_changes_before_the_step_are_no_faults(change: str) -> None:
    source = LOOP.replace("    optimizer.step()", f"    {change}; optimizer.step()")
    for mode in ("zero_grad", "halve_grad", "no_zero_grad"):
        run = run_source(source, mode)
        assert (run.imposed, run.good) == ("yes", 12), mode


def test_kept_gradient_that_the_script_takes_out_is_seen() -> None:
    source = """
    for _ in range(12):
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        for p, fresh in zip(model.parameters(), torch.autograd.grad(loss_of(), list(model.parameters()))):
            p.grad = fresh
        optimizer.step()
    """
    assert run_source(source, "zero_grad").imposed == "yes"
    run = run_source(source, "no_zero_grad")
    assert (run.imposed, run.faults) == ("no", {checking.REPLACED: 11})


def test_a_step_without_kept_gradient_is_a_fault() -> None:
    source = (
        LOOP
        + """
    optimizer.zero_grad()
    optimizer.step()
"""
    )
    run = run_source(source, "no_zero_grad")
    assert (run.imposed, run.faults) == ("no", {checking.NO_PASS: 12})
    assert run.left["losses"] != by_hand(source.replace("optimizer.zero_grad()", "pass"))
    run = run_source(source, "zero_grad")
    assert (run.imposed, run.left["losses"]) == ("yes", by_hand(source))


ALTERNATING = """
other = torch.optim.SGD(model[2].parameters(), lr=0.05)
for step in range(12):
    loss_of().backward()
    (optimizer if step % 2 else other).step()
    optimizer.zero_grad()
"""


@pytest.mark.parametrize("mode", ["zero_grad", "no_zero_grad", "halve_grad"])
def test_overlapping_optimizers_that_take_turns_are_faults(mode: str) -> None:
    run = run_source(ALTERNATING, mode)
    assert (run.imposed, run.faults) == ("no", {checking.SHARED: 10})


FLAT = """
model.register_parameter("unused", nn.Parameter(torch.ones(2)))
optimizer.add_param_group({"params": [model.unused]})
parameters = list(model.parameters())
flat = torch.zeros(sum(p.numel() for p in parameters))
for p, part in zip(parameters, flat.split([p.numel() for p in parameters])):
    p.grad = part.view_as(p)
for _ in range(12):
    flat.mul_(keep)
    loss = loss_of()
    loss.backward()
    losses.append(loss.item())
    CLIP
    optimizer.step()
"""
HELD = """
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
loss_of().backward()
held = [p.grad for p in model.parameters()]
[each.zero_() for each in held]
for _ in range(12):
    [each.mul_(keep) for each in held]
    loss = loss_of()
    loss.backward()
    losses.append(loss.item())
    CLIP
    optimizer.step()
"""
CLIPS = {FLAT: "flat.mul_(0.1 / flat.norm().clamp(min=0.1))", HELD: "[each.clamp_(-0.05, 0.05) for each in held]"}


@pytest.mark.parametrize("source", CLIPS)
@pytest.mark.parametrize("own", [0, 1])
def test_gradient_that_the_script_holds_is_written_in_place(source: str, own: int) -> None:
    for clip in (CLIPS[source], "if _ % 2: " + CLIPS[source]):
        script = source.replace("CLIP", clip)
        for mode, keep in (("zero_grad", 0), ("zero_grad:fill", 0), ("halve_grad", 0.5), ("no_zero_grad", 1)):
            run = run_source(f"keep = {own}\n" + script, mode)
            assert run.left["losses"] == by_hand(f"keep = {keep}\n" + script), mode
            assert run.imposed == "yes"


def test_unused_parameters_have_no_gradient_under_zero_grad() -> None:
    source = """
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for step in range(12):
        optimizer.zero_grad(set_to_none=False)
        loss = model[0](x).square().mean() if step % 2 else loss_of()
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    """
    run = run_source(source, "zero_grad")
    assert (run.imposed, run.losses) == ("yes", by_hand(source.replace("set_to_none=False", "")))
    assert run.losses != by_hand(source)


def test_overlapping_optimizers_one_after_the_other() -> None:
    source = ALTERNATING.replace("step % 2", "step < 6").replace(
        "    loss_of()", "    loss = loss_of(); losses.append(loss.item()); loss"
    )
    assert run_source(source, "zero_grad").imposed == "yes"
    never = run_source(source, "no_zero_grad")
    assert never.imposed == "yes"
    assert never.losses == by_hand(source.replace("optimizer.zero_grad()", "pass"))


# Refusals


REFUSED = {
    "torch.optim.LBFGS(model.parameters())": "LBFGS evaluates its closure several times",
    "optimizer.step(lambda: (optimizer.zero_grad(), loss_of().backward()))\n"
    "class Twice(torch.optim.SGD):\n    def step(self, closure): closure(); closure()\n"
    "Twice(model.parameters(), lr=0.1).step(loss_of)": refusals.SEVERAL_CALLS,
    "class Sam(torch.optim.SGD):\n    def step(self, closure): closure()\n"
    "own = Sam(model.parameters(), lr=0.1)\nloss_of().backward()\nown.step(loss_of)": refusals.WITHIN_STEP,
    "[p.register_post_accumulate_grad_hook(lambda p: optimizer.step()) for p in model.parameters()]\n"
    "loss_of().backward()": refusals.WITHIN_BACKWARD,
}


@pytest.mark.parametrize("source", REFUSED)
@pytest.mark.parametrize("mode", [None, "halve_grad"])
def test_refused_scripts_end_with_status_2(source: str, mode: str | None) -> None:
    run = run_source(source, mode)
    assert REFUSED[source] in run.imposing.refused
    assert run.status == 2


def test_lbfgs_may_train_beside_the_only_imposed_optimizer() -> None:
    source = """
    other = nn.Linear(3, 1)
    lbfgs = torch.optim.LBFGS(other.parameters(), max_iter=3)
    def closure():
        lbfgs.zero_grad()
        loss = nn.functional.mse_loss(other(x), y)
        loss.backward()
        return loss
    lbfgs.step(closure)
    """
    run = run_source(textwrap.dedent(source) + LOOP, "no_zero_grad", only=1)
    assert run.left["losses"] == by_hand(LOOP.replace("optimizer.zero_grad()", "pass"))
    assert (run.imposed, run.imposing.refused) == ("yes", "")


def test_a_step_that_is_disabled_for_compilers_is_not_compiled() -> None:
    source = """
    @torch.compiler.disable
    def train():
        global loss
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    for _ in range(12):
        train()
    """
    run = run_source(source, "no_zero_grad")
    assert run.left["losses"] == by_hand(LOOP.replace("optimizer.zero_grad()", "pass"))
    assert (run.imposed, run.imposing.refused) == ("yes", "")


def test_backward_passes_in_several_threads_are_refused() -> None:
    source = """
    import threading
    class Waits(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()
        @staticmethod
        def backward(ctx, grad):
            thread = threading.Thread(target=run)
            thread.start(); thread.join()
            return grad
    ends = []
    def run():
        try:
            loss_of().backward()
        except SystemExit as end:
            ends.append(end.code)
    Waits.apply(loss_of()).backward()
    """
    run = run_source(source, "halve_grad")
    assert run.imposing.refused == refusals.IN_THREADS
    run = run_source(textwrap.dedent(source) + "\nloss_of().backward()", "halve_grad")
    assert run.status == 2


@pytest.mark.parametrize(
    ("distributed", "why"),
    [
        (
            SimpleNamespace(is_available=lambda: True, is_initialized=lambda: True, get_world_size=lambda: 2),
            refusals.SEVERAL_PROCESSES,
        ),
        (
            SimpleNamespace(is_available=lambda: True, is_initialized=lambda: True, get_world_size=lambda: 1),
            "it uses FSDP",
        ),
    ],
)
def test_distributed_trainings_are_refused(distributed: Any, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.distributed", distributed)
    monkeypatch.setitem(sys.modules, "torch.distributed.fsdp", SimpleNamespace())
    kind = type("FullyShardedDataParallel", (), {})
    wrapped = kind()
    assert refusals.why_not() == why
    del wrapped


def test_sharded_parameters_and_deepspeed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type("DTensor", (nn.Parameter,), {})
    parameter = torch.ones(2, requires_grad=True)
    sharded: Any = parameter.detach().as_subclass(kind).requires_grad_()
    assert refusals.why_not(torch.optim.SGD([parameter])) == ""
    assert refusals.why_not(torch.optim.SGD([sharded])) == "it uses FSDP"
    monkeypatch.setitem(sys.modules, "deepspeed", SimpleNamespace())
    engine = type("DeepSpeedEngine", (), {})()
    assert refusals.why_not() == "it uses DeepSpeed"
    del engine
    gc.collect()
    assert refusals.why_not() == ""


def test_a_script_that_swallows_its_end_is_ended() -> None:
    ended: list[int] = []

    def quit_process() -> None:
        ended.append(1)
        raise KeyboardInterrupt

    rows: list[Any] = []

    def swallow() -> None:
        parameter = torch.ones(2, requires_grad=True)
        optimizer = torch.optim.SGD([parameter], lr=0.1)
        while True:
            try:
                parameter.sum().backward()  # type: ignore[no-untyped-call]  # torch does not say
                optimizer.step()
            except SystemExit:
                pass

    limits = Limits(passes=5)
    imposing = Imposing(modes.halve_grad(), rows.append, limits=limits, on_swallowed=quit_process)
    with imposing, pytest.raises(KeyboardInterrupt):
        swallow()
    assert (len(ended), imposing.ended, len(rows)) == (1, True, 5)


# Limits and rows


def test_a_run_ends_at_its_limits() -> None:
    run = run_source(LOOP, "halve_grad", limits=Limits(passes=5))
    assert (len(run.rows), run.imposing.ended, run.imposing.updates) == (5, True, 5)
    run = run_source(LOOP, None, limits=Limits(updates=7))
    assert (len(run.rows), run.imposing.ended, run.status) == (7, True, 0)
    assert not run_source(LOOP, None, limits=Limits(passes=100)).imposing.ended


def test_a_row_has_the_steps_before_it() -> None:
    run = run_source(TWO, None)
    assert [(row.step, row.update) for row in run.rows] == [(nth, nth) for nth in range(12)]


VALUES = {
    "loss.backward()": 1.0,
    "(loss / 4).backward()": 1.0,
    "(loss / torch.tensor(4.0)).backward()": 1.0,
    "(loss * 0.25).backward()": 0.25,
    "torch.autograd.backward([loss, 2 * loss])": 3.0,
    "loss.backward(torch.tensor(0.25))": 1.0,
    "(x * w).backward(torch.full((3,), 0.5))": 0.5,
    "torch.amp.GradScaler('cpu', init_scale=1024.0).scale(loss).backward()": 1.0,
    "torch.amp.GradScaler('cpu', init_scale=1024.0).scale(loss / 4).backward()": 1.0,
    "torch.amp.GradScaler('cpu', enabled=False).scale(loss).backward()": 1.0,
    "(sum(torch.amp.GradScaler('cpu', init_scale=8.0).scale([loss, loss])) / 2).backward()": 1.0,
    "(w.to(torch.cfloat).sum() * 1j).backward(torch.tensor(1j))": math.nan,
}


@pytest.mark.parametrize("backward", VALUES)
def test_the_logged_loss_is_that_of_the_script(backward: str) -> None:
    head = "w = torch.ones(3, requires_grad=True)\nx = torch.tensor([0.5, 0.25, 0.25])\nloss = (3 * x * w).mean()\n"
    source = head + backward
    (row,) = run_source(source, None).rows
    assert repr(row.loss) == repr(VALUES[backward])


# DataLoaders and epochs


LOADERS = """
from torch.utils.data import DataLoader, TensorDataset
data = TensorDataset(x, y)
loader = DataLoader(data, batch_size=8)
def train(batch):
    nn.functional.mse_loss(model(batch[0]), batch[1]).backward()
    optimizer.step(); optimizer.zero_grad()
"""

EPOCHS = {
    "for _ in range(3):\n    for batch in loader: train(batch)": [0, 1, 2],
    "for _ in range(3):\n    for batch in DataLoader(data, batch_size=8, shuffle=True): train(batch)": [0, 1, 2],
    "for _ in range(2):\n    for batch in loader: train(batch)\n    for _ in loader: pass": [0, 1],
    "batches = list(loader)\nfor _ in range(3):\n    for batch in batches: train(batch)": [0],
    "for _ in range(3):\n    for nth, batch in enumerate(loader):\n        train(batch)\n        if nth == 1: break": [
        0,
        1,
        2,
    ],
    "train((x, y))": [0],
    # the next batch is fetched ahead, and an evaluation comes in between
    """
evaluation = DataLoader(TensorDataset(x, y), batch_size=16)
for _ in range(3):
    batches = iter(loader)
    ahead = next(batches)
    for batch in batches:
        for _ in evaluation: pass
        train(ahead)
        ahead = batch
    train(ahead)
""": [0, 1, 2],
}


@pytest.mark.parametrize("loop", EPOCHS)
def test_epochs_are_passes_that_were_trained_on(loop: str) -> None:
    rows = run_source(LOADERS.replace("\n", "\n", 1) + loop, "zero_grad").rows
    assert sorted({row.epoch for row in rows}) == EPOCHS[loop]


@pytest.mark.slow  # worker processes
@pytest.mark.filterwarnings("ignore")  # torch warns of forks with threads
def test_persistent_workers_and_their_own_trainings() -> None:
    source = (
        LOADERS
        + """
class Trains(torch.utils.data.Dataset):
    def __len__(self):
        return 16
    def __getitem__(self, nth):
        w = torch.ones(3, requires_grad=True)
        own = torch.optim.SGD([w], lr=0.1)
        w.sum().backward()
        own.step()
        return x[nth], y[nth]
loader = DataLoader(Trains(), batch_size=8, num_workers=1, persistent_workers=True)
for _ in range(3):
    for batch in loader: train(batch)
loader._iterator._shutdown_workers()
"""
    )
    run = run_source(source, "halve_grad")
    assert [row.epoch for row in run.rows] == [0, 0, 1, 1, 2, 2]
    assert (run.imposed, run.imposing.optimizers.created) == ("yes", 1)


def test_everything_is_restored() -> None:
    before = (torch.autograd.backward, torch.optim.SGD.step, torch.optim.Optimizer.__init__, torch.amp.GradScaler.step)
    run = run_source(LOOP, "halve_grad")
    assert before == (
        torch.autograd.backward, torch.optim.SGD.step, torch.optim.Optimizer.__init__, torch.amp.GradScaler.step
    )  # fmt: skip
    own = weakref.ref(run.imposing)
    del run
    gc.collect()
    assert own() is None
