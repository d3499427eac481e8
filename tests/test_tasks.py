"""Tasks: what the built-in ones hold, how a user's own is found and checked, and the same start for every mode."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections import Counter, OrderedDict, namedtuple
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gradlab import tasks, user_code
from gradlab.errors import TaskError, UnfairTaskError
from gradlab.tasks import Minibatches, Task
from gradlab.tasks.hashing import hash_of
from tests.table import TASKS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

each_task = pytest.mark.parametrize(("name", "options"), TASKS, ids=[name for name, _ in TASKS])

GOOD = """
import torch
from gradlab import Task

def good(seed: int, width: int = 2) -> Task:
    model = torch.nn.Linear(width, 1)
    batches = [(torch.randn(3, width), torch.randn(3, 1)) for _ in range(2)]
    return Task.supervised(model, batches, torch.nn.MSELoss())
"""


@pytest.fixture(autouse=True)
def _imports_as_before(folder: Path) -> Iterator[None]:
    """Forget what a test imported from its folder."""
    path = list(sys.path)
    yield
    sys.path[:] = path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(folder)):
            del sys.modules[name]


def write(file: str, text: str) -> Path:
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def built(name: str, seed: int = 0, **options: object) -> Task:
    return tasks.build(tasks.find(name), seed, options)


def own(body: str, head: str = "seed", before: str = "") -> tasks.TaskName:
    """Return the task that the function `own(head)` with that body makes."""
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    imports = "import itertools, torch\nfrom gradlab import Task\nfrom torch import nn\n"
    write("mine.py", f"{imports}{before}\ndef own({head}):\n{lines}\n")
    return tasks.find("mine.py:own")


def plain(model: str = "nn.Linear(1, 1)", batches: str = "[torch.ones(2, 1)]", before: str = "") -> tasks.TaskName:
    """Return a task of one's own with that model and those batches."""
    return own(f"return Task({model}, {batches}, lambda model, batch: model(batch).mean())", before=before)


def first_batch(task: Task) -> tuple[Tensor, Tensor]:
    inputs, targets = next(iter(task.batches))
    return inputs, targets


def all_of(batches: Any) -> tuple[Tensor, Tensor]:
    """Return the rows of one pass, in the order of the first input."""
    inputs, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    order = torch.argsort(inputs[:, 0])
    return inputs[order], targets[order]


# The built-in tasks


def test_straight_line_has_forty_points_of_a_line_in_one_batch() -> None:
    task = built("straight_line")
    assert isinstance(task.batches, list)
    ((x, y),) = task.batches
    assert (x.shape, y.shape) == ((40, 1), (40, 1))
    assert (x.min().item(), x.max().item() < 0.8) == (0.0, True)
    # float32 holds 24 bits: an error of 2⁻²⁴ of a number below 1, twice for a product and a sum.
    expected = torch.tensor([[0.02 * i] for i in range(40)], dtype=torch.float64)
    assert torch.allclose(x.double(), expected, rtol=0, atol=2**-23)
    assert torch.allclose(y.double(), 0.7 * expected + 0.3, rtol=0, atol=2**-23)


@pytest.mark.parametrize(("loss", "criterion"), [("l1", nn.L1Loss()), ("mse", nn.MSELoss())])
def test_straight_line_is_judged_by_l1_or_mse(loss: str, criterion: nn.Module) -> None:
    task = built("straight_line", loss=loss)
    x, y = first_batch(task)
    assert torch.equal(task.loss(task.model, (x, y)), criterion(task.model(x), y))


def test_straight_line_is_judged_by_l1_where_nothing_is_said() -> None:
    task, explicit = built("straight_line"), built("straight_line", loss="l1")
    assert torch.equal(task.loss(task.model, first_batch(task)), explicit.loss(explicit.model, first_batch(explicit)))


def test_straight_line_without_that_loss_says_which_there_are() -> None:
    with pytest.raises(TaskError, match=r"unknown loss 'mae'.* Known: l1, mse"):
        built("straight_line", loss="mae")


def test_digits_are_all_of_scikit_learns_digits_between_0_and_1() -> None:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    batches = list(built("digits", batch_size=100).batches)
    seen = Counter(
        (tuple(row.tolist()), label.item())
        for inputs, targets in batches
        for row, label in zip(inputs, targets, strict=True)
    )
    assert [len(inputs) for inputs, _ in batches] == [100] * 17 + [97]  # 1,797 in all
    assert seen == Counter((tuple((row / 16).tolist()), int(label)) for row, label in zip(pixels, labels, strict=True))


def test_digits_are_classified_by_a_small_network_by_cross_entropy() -> None:
    task = built("digits", hidden=5, batch_size=7)
    x, y = first_batch(task)
    shapes = [tuple(each.shape) for each in task.model.parameters()]
    assert shapes == [(5, 64), (5,), (10, 5), (10,)]
    chosen = torch.log_softmax(task.model(x), dim=1)[torch.arange(7), y]
    assert torch.allclose(task.loss(task.model, (x, y)), -chosen.mean())  # float32, as torch computes it


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from gradlab.tasks import builtin

    builtin._digits.cache_clear()  # an earlier test may have read them
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(TaskError, match=re.escape("needs scikit-learn: pip install scikit-learn")):
        built("digits")


@pytest.mark.parametrize(("batch_size", "sizes"), [(1, [1] * 10), (4, [4, 4, 2]), (10, [10]), (99, [10])])
def test_noisy_line_has_its_samples_in_batches_of_that_size(batch_size: int, sizes: list[int]) -> None:
    task = built("noisy_line", inputs=3, samples=10, batch_size=batch_size)
    shapes = [(tuple(x.shape), tuple(y.shape)) for x, y in task.batches]
    assert shapes == [((size, 3), (size, 1)) for size in sizes]
    assert [tuple(each.shape) for each in task.model.parameters()] == [(1, 3), (1,)]


def test_noisy_line_by_default_has_forty_points_one_by_one() -> None:
    assert [(len(x), x.shape[1]) for x, _ in built("noisy_line").batches] == [(1, 1)] * 40


def test_noisy_line_without_noise_is_a_line() -> None:
    x, y = all_of(built("noisy_line", inputs=2, samples=50, noise=0.0).batches)
    ones = torch.ones(50, 1)
    solution = torch.linalg.lstsq(torch.cat([x, ones], dim=1).double(), y.double()).solution
    left = y.double() - torch.cat([x, ones], dim=1).double() @ solution
    assert left.abs().max().item() < 1e-5  # what float32 rounds off numbers of order 1


def test_noisy_line_has_noise_of_the_size_that_is_asked_for() -> None:
    x, y = all_of(built("noisy_line", samples=4000, noise=3.0).batches)
    design = torch.cat([x, torch.ones(4000, 1)], dim=1).double()
    left = y.double() - design @ torch.linalg.lstsq(design, y.double()).solution
    # The standard error of a standard deviation of n numbers is about σ/√(2n) = 0.034; five of them.
    assert left.std().item() == pytest.approx(3.0, abs=0.17)


def test_noisy_line_is_judged_by_the_mean_squared_error() -> None:
    task = built("noisy_line", batch_size=5)
    x, y = first_batch(task)
    assert torch.equal(task.loss(task.model, (x, y)), ((task.model(x) - y) ** 2).mean())


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("noisy_line", "inputs"),
        ("noisy_line", "samples"),
        ("noisy_line", "batch_size"),
        ("digits", "hidden"),
        ("digits", "batch_size"),
    ],
)
@pytest.mark.parametrize("value", [0, -1])
def test_a_size_below_one_is_refused(name: str, option: str, value: int) -> None:
    with pytest.raises(TaskError, match=f"option {option} must be at least 1, got {value}"):
        built(name, **{option: value})


def test_linear_4x3_has_one_sample_a_batch_in_the_order_of_its_data() -> None:
    task = built("linear_4x3", samples=7)
    assert [(tuple(x.shape), tuple(y.shape)) for x, y in task.batches] == [((4,), (3,))] * 7
    assert hash_of(list(task.batches)) == hash_of(list(task.batches))
    assert [tuple(each.shape) for each in task.model.parameters()] == [(3, 4), (3,)]  # W transposed, and b


def test_linear_4x3_is_judged_by_the_squared_error_summed_over_three_outputs() -> None:
    task = built("linear_4x3")
    x, y = first_batch(task)
    weight, bias = task.model.parameters()
    by_hand = sum((sum(weight[out, at] * x[at] for at in range(4)) + bias[out] - y[out]) ** 2 for out in range(3))
    assert torch.allclose(task.loss(task.model, (x, y)), torch.as_tensor(by_hand))  # float32, in another order


def test_linear_4x3_without_noise_is_linear_and_not_what_the_model_starts_from() -> None:
    task = built("linear_4x3", samples=50, noise=0.0)
    x, y = (torch.stack(list(part)).double() for part in zip(*task.batches, strict=True))
    design = torch.cat([x, torch.ones(50, 1)], dim=1)
    solution = torch.linalg.lstsq(design, y).solution
    assert (y - design @ solution).abs().max().item() < 1e-5  # what float32 rounds off numbers of order 1
    weight, bias = task.model.parameters()
    start = torch.cat([weight.T, bias.unsqueeze(0)])
    assert (solution - start).abs().max().item() > 0.5


# As usually printed, these do not run


def test_a_loss_of_three_numbers_has_no_gradient_of_its_own() -> None:
    weight, bias = torch.randn(4, 3, requires_grad=True), torch.randn(3, requires_grad=True)
    loss: Any = (torch.randn(4) @ weight + bias - torch.randn(3)) ** 2
    with pytest.raises(RuntimeError, match="grad can be implicitly created only for scalar outputs"):
        loss.backward()
    loss.sum().backward()  # the repair


def test_descent_by_hand_cannot_clear_a_gradient_before_there_is_one() -> None:
    w = torch.randn(3, requires_grad=True)
    with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'zero_'"):
        w.grad.zero_()  # type: ignore[union-attr]  # that is the fault


def test_descent_by_hand_cannot_change_a_leaf_in_place_but_under_no_grad() -> None:
    w = torch.randn(3, requires_grad=True)
    loss: Any = (w**2).sum()
    loss.backward()
    assert w.grad is not None
    with pytest.raises(
        RuntimeError, match="a leaf Variable that requires grad is being used in an in-place operation"
    ):
        w -= 0.1 * w.grad
    with torch.no_grad():  # the repair
        w -= 0.1 * w.grad


def passes(task: Task) -> str:
    return hash_of([task.model.state_dict(), list(task.batches), list(task.batches)])


@each_task
def test_one_seed_gives_the_same_weights_and_two_epochs_of_the_same_batches(
    name: str, options: dict[str, object]
) -> None:
    one = passes(built(name, 5, **options))
    torch.rand(3)  # whatever was drawn in between
    assert passes(built(name, 5, **options)) == one


@each_task
def test_another_seed_gives_other_weights(name: str, options: dict[str, object]) -> None:
    states = [built(name, seed, **options).model.state_dict() for seed in (5, 6)]
    assert hash_of(states[0]) != hash_of(states[1])


@pytest.mark.parametrize(("name", "options"), [TASKS[0], TASKS[2]], ids=["noisy_line", "digits"])
def test_another_seed_gives_other_batches(name: str, options: dict[str, object]) -> None:
    batches = [first_batch(built(name, seed, **options)) for seed in (5, 6)]
    assert hash_of(batches[0]) != hash_of(batches[1])


# Batches of two tensors


def minibatches(rows: int, size: int, seed: int = 0) -> Minibatches:
    data = torch.arange(float(rows))
    return Minibatches(data.unsqueeze(1), data * 10, size, torch.Generator().manual_seed(seed))


def test_a_pass_holds_every_row_once_with_its_target_the_last_batch_shorter() -> None:
    batches = list(minibatches(10, 4))
    assert [len(inputs) for inputs, _ in batches] == [4, 4, 2]
    assert sorted(x for inputs, _ in batches for x in inputs[:, 0].tolist()) == list(range(10))
    assert all(torch.equal(inputs[:, 0] * 10, targets) for inputs, targets in batches)


def test_a_second_pass_holds_every_row_again_in_another_order() -> None:
    batches = minibatches(20, 4)
    one, other = ([x for inputs, _ in batches for x in inputs[:, 0].tolist()] for _ in range(2))
    assert sorted(one) == sorted(other) == list(range(20))
    assert one != other


@pytest.mark.parametrize(("rows", "size", "length"), [(10, 4, 3), (10, 5, 2), (10, 1, 10), (10, 99, 1), (1, 1, 1)])
def test_the_length_is_the_number_of_batches_of_a_pass(rows: int, size: int, length: int) -> None:
    batches = minibatches(rows, size)
    assert len(batches) == len(list(batches)) == length


def test_the_order_is_drawn_from_the_generator_alone() -> None:
    one = hash_of(list(minibatches(20, 4)))
    torch.manual_seed(99)
    assert hash_of(list(minibatches(20, 4))) == one
    assert hash_of(list(minibatches(20, 4, seed=1))) != one


@pytest.mark.parametrize("size", [0, -3])
def test_a_batch_of_no_row_is_refused(size: int) -> None:
    with pytest.raises(TaskError, match=f"batch_size must be at least 1, got {size}"):
        minibatches(10, size)


# Task


def test_supervised_compares_what_the_model_says_with_the_targets() -> None:
    model = nn.Linear(2, 1)
    x, y = torch.ones(3, 2), torch.zeros(3, 1)
    task = Task.supervised(model, [(x, y)], nn.L1Loss())
    assert task.model is model
    assert torch.equal(task.loss(model, (x, y)), (model(x) - y).abs().mean())


def test_supervised_takes_the_batches_of_a_data_loader() -> None:
    data = TensorDataset(torch.ones(5, 2), torch.zeros(5, 1))
    task = Task.supervised(nn.Linear(2, 1), DataLoader(data, batch_size=2), nn.MSELoss())
    assert [task.loss(task.model, batch).shape for batch in task.batches] == [(), (), ()]


Pair = namedtuple("Pair", ["x", "y"])  # noqa: PYI024 - as users write it


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x,
        lambda x: [x, x],
        lambda x: (x, 1),
        lambda x: {"x": x, "deep": {"list": [x], "text": "kept"}},
        lambda x: Pair(x, [x]),
    ],
    ids=["tensor", "list", "tuple", "dict", "namedtuple"],
)
def test_on_another_device_model_and_batches_are_moved_however_they_are_nested(wrap: Any) -> None:
    seen = []
    task = Task(nn.Linear(1, 1), [wrap(torch.ones(1))], lambda _model, batch: seen.append(batch)).to("meta")
    task.loss(task.model, next(iter(task.batches)))
    assert {each.device.type for each in task.model.parameters()} == {"meta"}
    assert repr(seen[0]) == repr(wrap(torch.ones(1, device="meta")))
    assert type(seen[0]) is type(wrap(torch.ones(1)))


def test_a_batch_of_a_type_that_moves_by_itself_is_asked_to() -> None:
    class Encoded(dict[str, Any]):
        def to(self, device: str) -> str:
            return f"{len(self)} on {device}"

    seen: list[str] = []
    task = Task(nn.Linear(1, 1), [], lambda _model, batch: seen.append(batch)).to("meta")
    task.loss(task.model, Encoded(a=1, b=2))
    assert seen == ["2 on meta"]


def test_on_the_cpu_a_task_stays_as_it_is() -> None:
    task = Task(nn.Linear(1, 1), [], lambda _model, _batch: None)
    assert task.to("cpu") is task


# Finding


@pytest.mark.parametrize("name", ["noisy_line", "noisy-line", "Noisy-Line", " noisy_line "])
def test_a_built_in_task_is_found_however_it_is_written(name: str) -> None:
    assert tasks.find(name) == tasks.TaskName("noisy_line", "noisy_line")


def test_a_mistyped_task_is_answered_with_the_nearest_and_with_all_ways_to_name_one() -> None:
    with pytest.raises(TaskError) as raised:
        tasks.find("nosy_line")
    assert str(raised.value) == (
        "unknown task 'nosy_line'; did you mean 'noisy_line'? "
        "Known: " + ", ".join([*tasks.BUILT_IN, "FILE.py:NAME", "package.module:NAME"])
    )


def test_a_file_is_looked_for_in_the_experiments_folder_first() -> None:
    write("there/mine.py", "")
    write("mine.py", "")
    assert tasks.find("mine.py:f", Path("there")).file == Path("there/mine.py").resolve()
    assert tasks.find("mine.py:f").file == Path("mine.py").resolve()


def test_a_file_that_is_not_in_the_experiments_folder_is_looked_for_in_the_current_one() -> None:
    Path("there").mkdir()
    write("sub/mine.py", "")
    assert tasks.find("sub/mine.py:f", Path("there")).file == Path("sub/mine.py").resolve()


def test_a_file_with_its_whole_path_is_found_from_anywhere() -> None:
    file = write("mine.py", "").resolve()
    found = tasks.find(f"{file}:f", Path("/"))
    assert (found.name, found.file) == ("mine.py:f", file)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("nosuch.py:f", "task 'nosuch.py:f': there is no file nosuch.py"),
        ("mine.py:", "after the colon comes the name of a function, not ''"),
        ("mine.py:two words", "after the colon comes the name of a function, not 'two words'"),
        (":f", "is neither a built-in task nor FILE.py:NAME nor package.module:NAME"),
        ("some/folder:f", "is neither a built-in task nor FILE.py:NAME nor package.module:NAME"),
        ("mine.py", "unknown task 'mine.py'. Known: noisy_line"),
        ("", "unknown task ''. Known: noisy_line"),
    ],
)
def test_a_name_that_leads_nowhere_says_why(name: str, complaint: str) -> None:
    write("mine.py", "")
    with pytest.raises(TaskError, match=re.escape(complaint)):
        tasks.find(name)


def test_finding_a_task_does_not_import_it() -> None:
    write("mine.py", "raise RuntimeError('imported')")
    assert user_code.source_hash(tasks.find("mine.py:f")) is not None


# The source of a task


def test_the_source_of_a_built_in_task_is_gradlabs_own() -> None:
    assert user_code.source_hash(tasks.find("digits")) is None


@pytest.mark.parametrize("name", ["mine.py:f", "pack.mine:f"])
def test_the_source_of_a_users_task_changes_with_every_byte_of_its_file(name: str) -> None:
    write("pack/__init__.py", "")
    hashes = set()
    for text in ("x = 1", "x = 2", "x = 1"):
        write("mine.py", text)
        write("pack/mine.py", text)
        hashes.add(user_code.source_hash(tasks.find(name)))
    assert (len(hashes), None in hashes) == (2, False)


@pytest.mark.parametrize("name", ["nosuch_module:f", "nosuch_package.module:f", "json.nosuch:f"])
def test_a_module_that_is_not_there_is_an_error_of_the_task(name: str) -> None:
    with pytest.raises(TaskError, match=f"task '{name}': .*{name.partition(':')[0].partition('.')[0]}"):
        user_code.source_hash(tasks.find(name))


def test_a_package_that_raises_when_it_is_looked_into_is_an_error_of_the_task() -> None:
    write("raising/__init__.py", "1 / 0")
    write("raising/mine.py", GOOD)
    with pytest.raises(TaskError, match=r"task 'raising\.mine:good'"):
        user_code.source_hash(tasks.find("raising.mine:good"))


def test_the_main_module_is_no_place_for_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)  # as it is in the command `gradlab`
    with pytest.raises(TaskError, match="task '__main__:f'"):
        user_code.source_hash(tasks.find("__main__:f"))


# Loading


def test_a_users_task_is_loaded_from_a_file() -> None:
    write("mine.py", GOOD)
    task = built("mine.py:good", width=3)
    assert [tuple(each.shape) for each in task.model.parameters()] == [(1, 3), (1,)]


def test_a_users_task_is_loaded_from_a_module_in_the_current_folder() -> None:
    write("home_pack/__init__.py", "")
    write("home_pack/mine.py", GOOD)
    task = built("home_pack.mine:good", width=3)
    assert [tuple(each.shape) for each in task.model.parameters()] == [(1, 3), (1,)]


def test_a_users_file_may_import_its_neighbours_even_when_it_is_called() -> None:
    write("there/wide.py", "WIDTH = 7\n")
    write("there/deep.py", "def wider(): return 2\n")
    text = GOOD.replace("import torch", "import torch\nfrom wide import WIDTH", 1)
    write(
        "there/mine.py", text.replace("    model =", "    import deep\n    width = WIDTH * deep.wider()\n    model =")
    )
    assert first_batch(built("there/mine.py:good"))[0].shape == (3, 14)


def test_a_users_file_may_define_dataclasses() -> None:
    head = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    write("mine.py", head + "@dataclass\nclass Size:\n    width: int\n" + GOOD)
    assert first_batch(built("mine.py:good"))[0].shape == (3, 2)


def test_a_file_is_loaded_once_as_long_as_it_does_not_change() -> None:
    write("mine.py", GOOD)
    assert tasks.load(tasks.find("mine.py:good")) is tasks.load(tasks.find("mine.py:good"))


@pytest.mark.parametrize("name", ["mine.py:good", "changed_pack.mine:good"])
def test_a_file_that_has_changed_is_loaded_anew(name: str) -> None:
    write("changed_pack/__init__.py", "")
    widths = []
    for width in (2, 16):
        text = GOOD.replace("width: int = 2", f"width: int = {width}")
        write("mine.py", text)
        write("changed_pack/mine.py", text)
        widths.append(first_batch(built(name))[0].shape[1])
    assert widths == [2, 16]


def test_two_files_of_one_name_are_two_tasks() -> None:
    for width in (2, 16):
        write(f"folder{width}/mine.py", GOOD.replace("width: int = 2", f"width: int = {width}"))
    widths = [first_batch(built(f"folder{width}/mine.py:good"))[0].shape[1] for width in (2, 16, 2)]
    assert widths == [2, 16, 2]


def test_a_file_with_the_name_of_a_module_leaves_that_module_alone() -> None:
    import json

    write("json.py", GOOD)
    built("json.py:good")
    assert sys.modules["json"] is json


def test_a_module_that_is_imported_already_does_not_run_again() -> None:
    write("ran_pack/__init__.py", "RAN = []\n")
    write("ran_pack/mine.py", "from ran_pack import RAN\nRAN.append(1)\n" + GOOD)
    sys.path.insert(0, str(Path.cwd()))
    module = importlib.import_module("ran_pack.mine")
    assert tasks.load(tasks.find("ran_pack.mine:good")) is module.good
    assert module.RAN == [1]


@pytest.mark.parametrize(
    ("text", "place", "fault"),
    [
        ("import torch\n\n1 / 0\n", "mine.py:3", "ZeroDivisionError: division by zero"),
        ("def f(seed):\n    return (\n", "mine.py:2", "SyntaxError: '(' was never closed"),
        ("import nosuch_library\n", "mine.py:1", "ModuleNotFoundError: No module named 'nosuch_library'"),
        ("def f():\n    raise KeyError('deep')\nf()\n", "mine.py:2", "KeyError: 'deep'"),
    ],
    ids=["raises", "syntax", "import", "deep"],
)
def test_a_file_that_does_not_import_is_an_error_with_file_line_and_fault(text: str, place: str, fault: str) -> None:
    file = write("mine.py", text).resolve()
    with pytest.raises(TaskError) as raised:
        tasks.load(tasks.find("mine.py:f"))
    assert str(raised.value).startswith(f"task 'mine.py:f' does not import\n{file.parent / place}: {fault}")


def test_a_file_that_does_not_import_leaves_nothing_half_imported() -> None:
    write("broken.py", "x = 1\n1 / 0\n")
    with pytest.raises(TaskError, match="does not import"):
        tasks.load(tasks.find("broken.py:f"))
    assert "broken" not in sys.modules


def test_a_file_that_exits_when_it_is_imported_is_an_error_of_the_task() -> None:
    write("mine.py", "import sys\nsys.exit(0)\n")
    with pytest.raises(TaskError, match=r"task 'mine\.py:f' does not import"):
        tasks.load(tasks.find("mine.py:f"))


def test_a_module_that_does_not_import_is_an_error_of_the_task() -> None:
    write("bad_pack/__init__.py", "")
    write("bad_pack/mine.py", "1 / 0\n")
    with pytest.raises(TaskError, match=r"task 'bad_pack\.mine:f' does not import\n.*mine\.py:1: ZeroDivisionError"):
        tasks.load(tasks.find("bad_pack.mine:f"))


def test_a_function_that_is_not_there_is_answered_with_the_nearest_of_the_files_own() -> None:
    write("mine.py", "from json import loads\n" + GOOD)
    with pytest.raises(TaskError, match=r"unknown function in .*mine\.py: 'god'; did you mean 'good'\? Known: good$"):
        tasks.load(tasks.find("mine.py:god"))


def test_what_is_no_function_is_refused_with_its_type() -> None:
    write("mine.py", "number = 3\n")
    with pytest.raises(TaskError, match=r"task 'mine\.py:number': number is not a function but of type int"):
        tasks.load(tasks.find("mine.py:number"))


# Options


def complaint_of(head: str, options: dict[str, object]) -> str:
    name = own("pass", head)
    with pytest.raises(TaskError) as raised:
        tasks.check_options(name, options)
    return str(raised.value)


def test_a_task_without_a_seed_is_refused_with_the_signature_it_should_have() -> None:
    expected = "task 'mine.py:own' must take a seed: def own(seed: int, …) -> Task"
    assert complaint_of("width=3", {}) == complaint_of("", {}) == expected


def test_an_option_that_the_task_does_not_take_is_answered_with_those_it_does() -> None:
    assert complaint_of("seed, width=3, depth=1", {"widht": 3}) == (
        "task 'mine.py:own': unknown option 'widht'; did you mean 'width'? Known: width, depth"
    )


def test_the_seed_is_not_an_option() -> None:
    assert complaint_of("seed, width=3", {"seed": 3}) == "task 'mine.py:own': unknown option 'seed'. Known: width"


def test_an_option_without_a_default_must_be_given() -> None:
    assert complaint_of("seed, width, depth=1", {"depth": 2}) == (
        "task 'mine.py:own' needs the option width: --set task_options.width=…"
    )


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"], ids=["types", "strings"])
@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        ("int", 1.0, "an integer, got 1.0"),
        ("int", True, "an integer, got True"),
        ("int", "3", "an integer, got '3'"),
        ("float", "3", "a number, got '3'"),
        ("float", False, "a number, got False"),
        ("str", 3, "a string, got 3"),
        ("bool", 1, "true or false, got 1"),
    ],
)
def test_an_option_of_the_wrong_type_is_refused(annotation: str, value: object, words: str, future: str) -> None:
    write("mine.py", f"{future}def own(seed, width: {annotation}): pass\n")
    with pytest.raises(TaskError, match=re.escape(f"task 'mine.py:own': option width must be {words}")):
        tasks.check_options(tasks.find("mine.py:own"), {"width": value})


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ("int", 3),
        ("float", 3),
        ("float", 0.5),
        ("str", "3"),
        ("bool", True),
        ("list", [1, 2]),
        ("'int | None'", "any"),
    ],
)
def test_an_option_of_the_right_type_or_of_one_that_is_not_checked_is_accepted(annotation: str, value: object) -> None:
    tasks.check_options(own("pass", f"seed, width: {annotation}"), {"width": value})


def test_a_task_that_takes_any_option_takes_any_option() -> None:
    tasks.check_options(own("pass", "seed, **options"), {"whatever": 3})


def test_a_task_that_cannot_tell_its_parameters_is_an_error_of_the_task() -> None:
    with pytest.raises(TaskError, match="task 'builtins:dict'"):
        tasks.check_options(tasks.find("builtins:dict"), {})


def test_all_faulty_options_of_a_task_are_reported_at_once() -> None:
    with pytest.raises(TaskError) as raised:
        tasks.check_options(own("pass", "seed, width: int, depth: int"), {"widht": 3, "depth": "x"})
    assert str(raised.value).splitlines() == [
        "task 'mine.py:own': unknown option 'widht'; did you mean 'width'? Known: width, depth",
        "task 'mine.py:own': option depth must be an integer, got 'x'",
    ]


# Building


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("return None", "returned None; return gradlab.Task(model, batches, loss)"),
        ("return (nn.Linear(1, 1), [], None)", "returned a tuple; return gradlab.Task(model, batches, loss)"),
        ("return Task('model', [1], None)", "its model is a str, not a torch.nn.Module"),
        ("return Task(nn.Linear, [1], None)", "its model is a type, not a torch.nn.Module"),
        ("return Task(nn.Linear(1, 1), (x for x in [1]), None)", "its batches are a generator, which gives no second"),
        (
            "return Task(nn.Linear(1, 1), iter([1]), None)",
            "its batches are a list_iterator, which gives no second epoch",
        ),
        ("return Task(nn.Linear(1, 1), 3, None)", "its batches are an int, which gives no second epoch; use a list"),
        ("return Task(nn.ReLU(), [1], None)", "its model has no parameter to train"),
        ("return Task(nn.Linear(1, 1).requires_grad_(False), [1], None)", "its model has no parameter to train"),
    ],
)
def test_what_cannot_be_trained_is_an_error_of_the_task(body: str, complaint: str) -> None:
    with pytest.raises(TaskError, match=re.escape("task 'mine.py:own'") + ".*" + re.escape(complaint)):
        tasks.build(own(body), 0, {})


def test_every_generator_is_seeded_before_the_function_is_called() -> None:
    body = """
        import random, numpy
        own.drawn = [random.random(), numpy.random.rand(), torch.rand(1).item()]
        return Task(nn.Linear(1, 1), [1], None)
    """
    name = own("\n".join(line.strip() for line in body.strip().splitlines()))
    drawn = []
    for seed in (1, 1, 2):
        tasks.build(name, seed, {})
        drawn.append(tasks.load(name).drawn)  # type: ignore[attr-defined]  # the function put it on itself
    assert drawn[0] == drawn[1]
    assert all(one != other for one, other in zip(drawn[0], drawn[2], strict=True))


def test_an_error_of_the_users_function_is_theirs() -> None:
    with pytest.raises(ZeroDivisionError):
        tasks.build(own("1 / 0"), 0, {})


# The same start for every mode

ADVICE = "modes are compared from one start, so draw everything from the seed: "
COUNTED = "COUNT = itertools.count()"
MODEL_ADVICE = "make the model inside the task's function"
BATCH_ADVICE = "shuffle with generator=torch.Generator().manual_seed(seed)"


@each_task
def test_the_start_of_a_built_in_task_is_its_weights_and_its_first_batch(
    name: str, options: dict[str, object]
) -> None:
    start = tasks.start_of(tasks.find(name), 5, options)
    task = built(name, 5, **options)
    assert start.weights == hash_of(task.model.state_dict())
    assert start.batches[0] == hash_of(next(iter(task.batches)))
    tasks.verified(tasks.find(name), 5, task, start)


def test_weights_that_differ_from_call_to_call_are_refused_with_what_to_do() -> None:
    fills = "lambda model: [nn.init.constant_(p, next(COUNT)) for p in model.parameters()]"
    name = own(
        f"model = nn.Linear(1, 1)\n({fills})(model)\nreturn Task(model, [torch.ones(1, 1)], None)", before=COUNTED
    )
    with pytest.raises(UnfairTaskError) as raised:
        tasks.start_of(name, 3, {})
    assert str(raised.value) == (
        "task 'mine.py:own' is not deterministic: two calls with seed 3 give different initial weights\n"
        + ADVICE
        + MODEL_ADVICE
    )


def test_a_first_batch_that_differs_from_call_to_call_is_refused_with_what_to_do() -> None:
    name = plain(batches="[torch.full((1, 1), float(next(COUNT)))]", before=COUNTED)
    with pytest.raises(UnfairTaskError) as raised:
        tasks.start_of(name, 3, {})
    assert str(raised.value) == (
        "task 'mine.py:own' is not deterministic: two calls with seed 3 give different first batches\n"
        + ADVICE
        + BATCH_ADVICE
    )


def test_batches_shuffled_by_a_generator_that_outlives_the_call_are_refused() -> None:
    before = (
        "from torch.utils.data import DataLoader\n"
        "G = torch.Generator().manual_seed(0)\n"
        "LOADER = DataLoader(torch.arange(64.0).reshape(64, 1), 4, shuffle=True, generator=G)"
    )
    with pytest.raises(UnfairTaskError, match="different first batches"):
        tasks.start_of(plain(batches="LOADER", before=before), 3, {})


def test_batches_shuffled_by_torchs_seeded_generator_are_fair() -> None:
    loader = "torch.utils.data.DataLoader(torch.arange(64.0).reshape(64, 1), 4, shuffle=True)"
    name = plain(batches=loader)
    assert tasks.start_of(name, 3, {}) == tasks.start_of(name, 3, {})
    assert tasks.start_of(name, 3, {}).batches != tasks.start_of(name, 4, {}).batches


def test_a_model_that_outlives_the_call_is_refused_once_it_is_trained() -> None:
    name = plain(model="MODEL", before="MODEL = nn.Linear(1, 1)")
    start = tasks.start_of(name, 3, {})
    task = tasks.build(name, 3, {})
    tasks.verified(name, 3, task, start)
    nn.init.zeros_(next(task.model.parameters()))
    with pytest.raises(UnfairTaskError, match=f"different initial weights\n.*{MODEL_ADVICE}"):
        tasks.verified(name, 3, tasks.build(name, 3, {}), start)


def test_a_task_without_a_batch_has_no_start() -> None:
    with pytest.raises(TaskError, match=r"task 'mine\.py:own' has no batch"):
        tasks.start_of(plain(batches="[]"), 3, {})


@pytest.mark.parametrize(
    "batch",
    [
        "torch.rand(2, 1)",
        "{'x': torch.rand(2, 1), 'y': [1, 2]}",
        "(torch.rand(2, 1), (torch.rand(1), 'label'))",
        "numpy.random.rand(2, 1)",
        "[numpy.random.rand(2), torch.rand(2)]",
        "Batch(torch.rand(2, 1), torch.rand(2, 1))",
    ],
    ids=["tensor", "dict", "tuple", "numpy", "both", "dataclass"],
)
def test_a_batch_of_any_kind_is_held_against_itself(batch: str) -> None:
    before = (
        "import numpy\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Batch:\n    x: torch.Tensor\n    y: torch.Tensor\n"
        "KEPT = []"  # what an earlier call made stays where it is, so that nothing is the same by standing there too
    )
    name = own(f"batch = {batch}\nKEPT.append(batch)\nreturn Task(nn.Linear(1, 1), [batch], None)", before=before)
    assert tasks.start_of(name, 3, {}).batches != tasks.start_of(name, 4, {}).batches


# Hashes


@dataclass
class Holder:
    """A batch of a class of the user's own."""

    x: object


@dataclass(slots=True)
class Slotted:
    """A batch without a `__dict__`."""

    x: object


class Text(str):
    """A string with room for more."""


def circle(value: object) -> Holder:
    """Return an object that holds itself, as a node of a graph does."""
    made = Holder([value])
    made.x = [value, made]
    return made


EQUAL: list[tuple[Any, Any]] = [
    (torch.arange(6.0).reshape(2, 3), torch.arange(6.0).reshape(3, 2).T.contiguous().T.reshape(2, 3)),
    (torch.arange(6.0)[::2], torch.tensor([0.0, 2.0, 4.0])),
    (torch.ones(2, requires_grad=True), torch.ones(2)),
    (torch.eye(2).to_sparse(), torch.eye(2).to_sparse()),
    (torch.tensor(True), torch.tensor(True)),
    (torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.bfloat16)),
    (torch.empty(0), torch.zeros(0)),
    (np.arange(3), np.arange(3)),
    ({"x": [1, (2.0, "three")], "y": None}, {"x": [1, (2.0, "three")], "y": None}),
    (Holder([1, "two"]), Holder([1, "two"])),
    (Holder(torch.ones(3)), Holder(torch.ones(3))),
    (Holder({"deep": [torch.ones(3)]}), Holder({"deep": [torch.ones(3)]})),
    (Slotted(torch.ones(3)), Slotted(torch.ones(3))),
    (circle(torch.ones(3)), circle(torch.ones(3))),
]
DIFFERENT: list[tuple[Any, Any]] = [
    (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0000002])),
    (torch.tensor([1.0, 2.0]), torch.tensor([2.0, 1.0])),
    (torch.ones(2, 3), torch.ones(3, 2)),
    (torch.ones(2), torch.ones(2, dtype=torch.float64)),
    (torch.zeros(1), torch.tensor([-0.0])),
    (torch.zeros(1, dtype=torch.int32), torch.zeros(1)),
    (np.arange(3), np.arange(3.0)),
    (np.arange(4), np.arange(4).reshape(2, 2)),
    (np.arange(3), np.array([0, 1, 3])),
    (torch.arange(3), np.arange(3)),
    ([1, 2], (1, 2)),
    ([1, 2], [1, 2, 2]),
    ([1, 2], [1, "2"]),
    (["ab", "c"], ["a", "bc"]),
    ({"x": 1}, {"y": 1}),
    ({"x": 1}, {"x": 2}),
    ({"x": 1}, OrderedDict(x=1)),
    ({"x": {"y": 1}, "z": 2}, {"x": {"y": 1, "z": 2}}),
    (Holder([1, "two"]), Holder([1, "three"])),
    (Holder(torch.ones(3)), Holder(torch.zeros(3))),
    (Slotted(torch.ones(3)), Slotted(torch.zeros(3))),
    (circle(torch.ones(3)), circle(torch.zeros(3))),
    (Text("one"), Text("other")),
    (np.ma.MaskedArray([1, 2]), np.ma.MaskedArray([1, 3])),
    ([[1], 2], [[1, 2]]),
    ([[torch.ones(1)], torch.ones(1)], [[torch.ones(1), torch.ones(1)]]),
    ([[], 1], [[1]]),
]


@pytest.mark.parametrize(("one", "other"), EQUAL, ids=lambda value: type(value).__name__)
def test_equal_batches_have_equal_hashes(one: object, other: object) -> None:
    assert hash_of(one) == hash_of(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT, ids=lambda value: type(value).__name__)
def test_batches_that_differ_in_type_shape_or_content_have_different_hashes(one: object, other: object) -> None:
    assert hash_of(one) != hash_of(other)


def test_what_cannot_be_hashed_is_told_apart_by_its_type() -> None:
    def local() -> None:
        """Not to be pickled."""

    assert hash_of([local]) == hash_of([lambda: None]) != hash_of([1])


@pytest.mark.slow
def test_a_hash_is_the_same_in_another_process() -> None:
    value = "[{'x': torch.arange(3.0), 'y': ('a', 1)}, None]"
    code = f"import torch\nfrom gradlab.tasks.hashing import hash_of\nprint(hash_of({value}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hash_of([{"x": torch.arange(3.0), "y": ("a", 1)}, None])


def test_a_batch_of_the_run_itself_that_differs_is_refused_when_it_is_drawn() -> None:
    name = tasks.find("noisy_line")
    start = tasks.start_of(name, 3, {"samples": 4})
    other = built("noisy_line", 4, samples=4)
    right = built("noisy_line", 3, samples=4)
    watched = tasks.verified(name, 3, Task(right.model, other.batches, right.loss), start)
    with pytest.raises(UnfairTaskError, match="different first batches"):
        list(watched.batches)


def test_the_first_pass_alone_is_watched_and_every_pass_gives_all_batches() -> None:
    name = tasks.find("noisy_line")
    start = tasks.start_of(name, 3, {"samples": 40})
    assert len(start.batches) == 32
    watched = tasks.verified(name, 3, built("noisy_line", 3, samples=40), start)
    plain = built("noisy_line", 3, samples=40)
    for _ in range(3):
        pairs = list(zip(watched.batches, plain.batches, strict=True))
        assert len(pairs) == 40
        assert all(torch.equal(ours[0], theirs[0]) for ours, theirs in pairs)
