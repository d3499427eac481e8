"""From a name to a task: finding, importing and building it, and its options."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gradlab import tasks, user_code
from gradlab.errors import TaskError
from gradlab.experiment import Expected
from gradlab.rows import TAKEN_NAMES, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from gradlab.tasks import Task


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


def first_batch(task: Task) -> tuple[Tensor, Tensor]:
    inputs, targets = next(iter(task.batches))
    return inputs, targets


def plain(model: str = "nn.Linear(1, 1)", batches: str = "[torch.ones(2, 1)]", before: str = "") -> tasks.TaskName:
    """Return a task of one's own with that model and those batches."""
    return own(f"return Task({model}, {batches}, lambda model, batch: model(batch).mean())", before=before)


# Finding


@pytest.mark.parametrize("name", ["noisy_line", "noisy-line", "Noisy-Line", " noisy_line "])
def test_a_built_in_task_is_found_however_it_is_written(name: str) -> None:
    assert tasks.find(name) == tasks.TaskName("noisy_line", "noisy_line")


def test_a_mistyped_task_is_answered_with_the_nearest_name() -> None:
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


def test_a_file_is_then_looked_for_in_the_current_folder() -> None:
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
        ("nosuch.py:f", "task 'nosuch.py:f': no file nosuch.py"),
        ("mine.py:", "expected a function name after the colon, got ''"),
        ("mine.py:two words", "expected a function name after the colon, got 'two words'"),
        (":f", "expected a built-in task, FILE.py:NAME or package.module:NAME"),
        ("some/folder:f", "expected a built-in task, FILE.py:NAME or package.module:NAME"),
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
def test_the_source_of_a_users_task_changes_with_its_file(name: str) -> None:
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


def test_a_package_that_raises_is_an_error_of_the_task() -> None:
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


def test_a_users_task_is_loaded_from_a_module() -> None:
    write("home_pack/__init__.py", "")
    write("home_pack/mine.py", GOOD)
    task = built("home_pack.mine:good", width=3)
    assert [tuple(each.shape) for each in task.model.parameters()] == [(1, 3), (1,)]


def test_a_users_file_may_import_its_neighbours() -> None:
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


def test_a_file_with_the_name_of_a_module_does_not_replace_it() -> None:
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
def test_an_import_error_has_file_line_and_fault(text: str, place: str, fault: str) -> None:
    file = write("mine.py", text).resolve()
    with pytest.raises(TaskError) as raised:
        tasks.load(tasks.find("mine.py:f"))
    assert str(raised.value).startswith(f"task 'mine.py:f' cannot be imported\n{file.parent / place}: {fault}")


def test_a_failed_import_leaves_nothing_half_imported() -> None:
    write("broken.py", "x = 1\n1 / 0\n")
    with pytest.raises(TaskError, match="cannot be imported"):
        tasks.load(tasks.find("broken.py:f"))
    assert "broken" not in sys.modules


def test_a_file_that_exits_on_import_is_an_error_of_the_task() -> None:
    write("mine.py", "import sys\nsys.exit(0)\n")
    with pytest.raises(TaskError, match=r"task 'mine\.py:f' cannot be imported"):
        tasks.load(tasks.find("mine.py:f"))


def test_a_module_that_does_not_import_is_an_error_of_the_task() -> None:
    write("bad_pack/__init__.py", "")
    write("bad_pack/mine.py", "1 / 0\n")
    with pytest.raises(
        TaskError, match=r"task 'bad_pack\.mine:f' cannot be imported\n.*mine\.py:1: ZeroDivisionError"
    ):
        tasks.load(tasks.find("bad_pack.mine:f"))


def test_a_missing_function_is_answered_with_the_nearest() -> None:
    write("mine.py", "from json import loads\n" + GOOD)
    with pytest.raises(TaskError, match=r"unknown function in .*mine\.py: 'god'; did you mean 'good'\? Known: good$"):
        tasks.load(tasks.find("mine.py:god"))


def test_what_is_no_function_is_refused_with_its_type() -> None:
    write("mine.py", "number = 3\n")
    with pytest.raises(TaskError, match=r"task 'mine\.py:number': number is an int, not a function"):
        tasks.load(tasks.find("mine.py:number"))


# Options


def complaint_of(head: str, options: dict[str, object]) -> str:
    name = own("pass", head)
    with pytest.raises(TaskError) as raised:
        tasks.check_options(name, options)
    return str(raised.value)


def test_a_task_without_a_seed_is_refused() -> None:
    expected = "task 'mine.py:own' must take a seed: def own(seed: int, …) -> Task"
    assert complaint_of("width=3", {}) == complaint_of("", {}) == expected


def test_an_unknown_task_option_is_answered_with_the_known() -> None:
    assert complaint_of("seed, width=3, depth=1", {"widht": 3}) == (
        "task 'mine.py:own': unknown option 'widht'; did you mean 'width'? Known: depth, width"
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
        ("int", True, "an integer, got true"),
        ("int", "3", "an integer, got '3'"),
        ("float", "3", "a number, got '3'"),
        ("float", False, "a number, got false"),
        ("str", 3, "a string, got 3"),
        ("bool", 1, "true or false, got 1"),
        ("'int | None'", "any", "an integer, got 'any'"),
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
        ("'Widget | None'", "any"),
        ("'float | list[float]'", [0.5]),
    ],
)
def test_an_option_of_the_right_or_an_unknown_type_is_accepted(annotation: str, value: object) -> None:
    tasks.check_options(own("pass", f"seed, width: {annotation}"), {"width": value})


def test_a_task_that_takes_any_option_takes_any_option() -> None:
    tasks.check_options(own("pass", "seed, **options"), {"whatever": 3})


def test_a_task_without_a_signature_is_an_error_of_the_task() -> None:
    with pytest.raises(TaskError, match="task 'builtins:dict'"):
        tasks.check_options(tasks.find("builtins:dict"), {})


def test_all_faulty_options_of_a_task_are_reported_at_once() -> None:
    with pytest.raises(TaskError) as raised:
        tasks.check_options(own("pass", "seed, width: int, depth: int"), {"widht": 3, "depth": "x"})
    assert str(raised.value).splitlines() == [
        "task 'mine.py:own': unknown option 'widht'; did you mean 'width'? Known: depth, width",
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
        (
            "return Task(nn.Linear(1, 1), (x for x in [1]), None)",
            "its batches are a generator, which allows one epoch",
        ),
        (
            "return Task(nn.Linear(1, 1), iter([1]), None)",
            "its batches are a list_iterator, which allows one epoch only",
        ),
        ("return Task(nn.Linear(1, 1), 3, None)", "its batches are an int, which allows one epoch only; use a list"),
        ("return Task(nn.ReLU(), [1], None)", "its model has no trainable parameter"),
        ("return Task(nn.Linear(1, 1).requires_grad_(False), [1], None)", "its model has no trainable parameter"),
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


# Validation batches and metrics

EVALUATED = """
import torch
from gradlab import Task

def evaluated(seed):
    return Task.supervised(torch.nn.Linear(1, 1), [(torch.ones(1, 1), torch.ones(1, 1))], torch.nn.MSELoss(), {given})
"""


ONE_BATCH = "one batch, not a list of batches; write validation=[(x, y)]"


def test_two_tensors_are_batches_of_a_task_with_such_batches() -> None:
    write(
        "mine.py",
        "import torch\nfrom gradlab import Task\nx = torch.ones(2, 1)\ndef mine(seed, pairs=False):\n"
        "    batches = [(x, x)] if pairs else [x]\n"
        "    return Task(torch.nn.Linear(1, 1), batches, lambda model, batch: model(x).mean(), validation=(x, x))\n",
    )
    assert len(list(built("mine.py:mine").validation or ())) == 2
    with pytest.raises(TaskError, match=re.escape(ONE_BATCH)):
        built("mine.py:mine", pairs=True)


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ("validation=[]", "its validation set has no batch"),
        (
            "validation=iter([1])",
            "its validation is a list_iterator, which allows one pass only; use a list or a Data",
        ),
        ("validation=3", "its validation is an int, not batches; use a list, as in validation=[(x, y)]"),
        ("validation=max", "its validation is a builtin_function_or_method, not batches; use a list, as in"),
        ("validation={'x': 1}", "its validation is a dict, not batches; use a list, as in validation=[(x, y)]"),
        ("validation='valid'", "its validation is a str, not batches; use a list, as in validation=[(x, y)]"),
        ("validation=(torch.ones(3, 1), torch.ones(3, 1))", f"its validation is {ONE_BATCH}"),
        ("validation=[torch.ones(3, 1), torch.ones(3, 1)]", f"its validation is {ONE_BATCH}"),
        ("metrics=[max]", 'its metrics are a list; use a dict: {"accuracy": function}'),
        ("metrics={'top 5': max}", "metric 'top 5' needs a name of letters, digits and _"),
        ("metrics={3: max}", "metric 3 needs a name of letters"),
        ("metrics={'loss': max}", "a metric cannot be called 'loss', as a column is; try 'mean_loss'"),
        ("metrics={'cosine': max}", "a metric cannot be called 'cosine'"),
        ("metrics={'accuracy': 0.9}", "metric 'accuracy' is a float, not a function of model and batch"),
    ],
)
def test_validation_and_metrics_that_cannot_be_used_are_refused(given: str, wrong: str) -> None:
    write("mine.py", EVALUATED.replace("{given}", given))
    with pytest.raises(TaskError, match=f"^task 'mine.py:evaluated': {re.escape(wrong)}"):
        built("mine.py:evaluated")


def test_all_mistakes_of_metrics_are_found_at_once() -> None:
    write("mine.py", EVALUATED.replace("{given}", "validation=[], metrics={'loss': 3}"))
    with pytest.raises(TaskError) as raised:
        built("mine.py:evaluated")
    assert len(str(raised.value).splitlines()) == 3


def test_no_metric_can_be_called_like_a_key_of_expectations() -> None:
    assert set(Expected.model_fields) | set(Row._fields) <= TAKEN_NAMES
