"""What the benchmarks compare is the same training: the sides agree on every loss, for sizes that take no time."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from gradlab import modes, train
from tests.benchmarks import sides, turns, whole_job
from tests.benchmarks.agreement import agreed, apart
from tests.benchmarks.by_hand import functional, plain
from tests.benchmarks.ensembles import line, spread
from tests.benchmarks.explore import script_per_frame

ROOT = Path(__file__).parent.parent
WORDS = ["keep=0", "keep=0.5", "keep=0.96875"]
CASE = sides.Case(seeds=2, modes=WORDS, steps=40, chosen=[0, 2, 4, 5])
CLOSE = 1e-5  # of the curve's height: sums in float32 are added in another order; some 1e-7 a step


@pytest.mark.skipif(find_spec("joblib") is None, reason="joblib comes with scikit-learn, or with the benchmarks")
def test_hand_written_loop_and_pool_train_bit_for_bit_alike() -> None:
    assert sides.pool(CASE, processes=1).losses == sides.plain(CASE).losses


def test_the_loop_by_hand_trains_what_gradlab_trains_bit_for_bit() -> None:
    assert sides.singles(CASE).losses == sides.plain(CASE).losses


def test_the_ensemble_trains_what_the_loop_by_hand_trains() -> None:
    assert max(apart(sides.ours(CASE).losses, sides.plain(CASE).losses)) < CLOSE


def test_runs_that_are_not_the_same_are_found_to_be_apart() -> None:
    others = sides.plain(CASE._replace(chosen=[1, 3, 3, 4]))
    with pytest.raises(AssertionError, match="the one and the other do not train the same"):
        agreed(apart(others.losses, sides.plain(CASE).losses), "the one and the other")


def test_a_curve_in_some_that_parts_is_told() -> None:
    curves = [[1.0, 2.0]] * 4
    differences = apart([[1.0, 2.0]] * 3 + [[1.0, 1.0]], curves)
    assert differences == [0, 0, 0, 0.5]
    assert agreed(differences, "they").endswith("; 1 of 4 curves parted, to 5e-01")


@pytest.mark.skipif(find_spec("jax") is None, reason="JAX is what the benchmarks need alone")
def test_jax_trains_what_the_loop_by_hand_trains() -> None:
    numbers = ["--seeds", "2", "--keeps", "3", "--steps", "40", "--sample", "4"]
    command = [sys.executable, "-m", "tests.benchmarks.ensembles", "--side", "jax", *numbers]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    case = CASE._replace(modes=["keep=0", "keep=0.03125", "keep=0.0625"], chosen=spread(2, 3, 4))
    theirs = json.loads(done.stdout)["losses"]
    assert max(apart(theirs, sides.plain(case).losses)) < CLOSE


def test_hand_written_script_trains_what_gradlab_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "STEPS", 40)
    assert list(plain.MODES) == ["zero_grad", "no_zero_grad", "halve_grad"]
    for name, keep in plain.MODES.items():
        task = sides.built(1)
        optimizer = torch.optim.SGD(task.model.parameters(), lr=plain.LR)
        rows = train(task, modes.parse(name), optimizer, steps=40)
        assert plain.train(keep, 1) == [row.loss for row in rows]


def test_torch_func_script_trains_what_the_plain_one_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    for script in (plain, functional):
        monkeypatch.setattr(script, "STEPS", 40)
    expected = [[plain.train(keep, seed) for seed in range(plain.SEEDS)] for keep in plain.MODES.values()]
    assert torch.allclose(functional.train(), torch.tensor(expected), rtol=0, atol=CLOSE)


def test_jax_script_starts_with_torch_weights_and_batches(folder: Path) -> None:
    import numpy as np

    whole_job.write_start(folder / "start.npz")
    with np.load(folder / "start.npz") as start:
        (inputs, targets), *_ = list(sides.built(3).batches)
        chosen = start["order"][3, 0]
        assert np.array_equal(start["x"][3, chosen], inputs.numpy())
        assert np.array_equal(start["y"][3, chosen], targets.numpy())
        assert np.array_equal(start["w1"][3], sides.built(3).model.state_dict()["2.weight"].numpy().T)


def test_the_memory_of_a_run_is_the_slope_of_the_straight_line() -> None:
    slope, start, r2 = line([1, 2, 4], [7.0, 9.0, 13.0])
    assert (slope, start, r2) == pytest.approx((2, 5, 1))


def test_a_ratio_is_the_median_of_those_of_each_round() -> None:
    ones = [turns.Cost(1, 1), turns.Cost(4, 8), turns.Cost(9, 90)]
    found = turns.compared(ones, [turns.Cost(1, 1), turns.Cost(2, 2), turns.Cost(3, 3)])
    assert found == turns.Compared((2, 1, 3), (4, 1, 30))


def test_script_of_a_frame_is_all_on_its_thread_once() -> None:
    def event(name: str, ts: int, tdur: int, tid: int = 1) -> dict[str, object]:
        return {"name": name, "ph": "X", "pid": 7, "tid": tid, "ts": ts, "dur": 2 * tdur, "tdur": tdur}

    events = [
        event("FireAnimationFrame", 0, 100),
        event("EventDispatch", 1000, 2000),
        event("FunctionCall", 1100, 500),  # inside of the event
        event("Paint", 5100, 9000),
        event("FunctionCall", 5200, 9000, tid=2),
        event("TimerFire", 30_000, 1000),
        event("FireAnimationFrame", 40_000, 3000),
        event("FireAnimationFrame", 50_000, 1000),
        event("EventDispatch", 60_000, 9000),  # of a frame without end
    ]
    assert script_per_frame({"traceEvents": events}) == [6, 1]


def test_lines_of_code_exclude_blanks_comments_and_docstrings(folder: Path) -> None:
    (folder / "script.py").write_text(
        '"""One.\n\nTwo.\n"""\n\n# why\nx = [\n    1,\n]\n\n\ndef f():\n    """Do."""\n    return x\n'
    )
    assert whole_job.lines_of_code(folder / "script.py") == 5
