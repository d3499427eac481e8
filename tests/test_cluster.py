"""Sweeps on a Dask cluster: what a cell ships, and what is told of a cluster that cannot be used."""

from __future__ import annotations

import pickle
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from gradlab.cli import app
from gradlab.errors import ClusterError, GradlabError, TaskError
from gradlab.experiment import Override, from_task
from gradlab.sweeps import cells, cluster, grid_of, remote, shipping
from gradlab.sweeps.cluster import Cluster

if TYPE_CHECKING:
    from gradlab.sweeps import Grid

MINE = """
import torch
from gradlab import Task

def mine(seed: int) -> Task:
    model = torch.nn.Linear(1, 1)
    return Task(model, [torch.ones(2, 1)], lambda model, batch: model(batch).pow(2).mean() * (1 // (seed - 1)))

def thirds(parameters, update):
    for each in parameters:
        each.grad /= 3
"""


def grid(task: str = "noisy_line", *vary: str, **more: Any) -> Grid:
    overrides = {"steps": 4, "seeds": [0, 1, 2], **more}
    made = from_task(task, [Override((key,), value, "") for key, value in overrides.items()])
    return grid_of(made, vary or ("lr=0.1,0.2",), engine="loop")


BIG = grid("noisy_line", "lr=1e-3:1:200:log", "keep=0:1:50", "batch_size=1,2", seeds=list(range(50)))
WORDS = grid("noisy_line", "lr=1,2,3", modes=["zero_grad", "halve_grad", "decay:0.9"], seeds=[5, 3, 8])


@settings(max_examples=30)
@given(st.sampled_from([BIG, WORDS]), st.data())
def test_a_part_of_a_grid_holds_the_same_runs(whole: Grid, data: st.DataObject) -> None:
    numbers = data.draw(st.lists(st.integers(0, whole.runs - 1), min_size=1, max_size=20, unique=True))
    part, those = whole.part(numbers)
    assert [part.run(nth) for nth in those] == [whole.run(nth) for nth in numbers]
    assert all(len(axis.values) <= len(numbers) for axis in part.axes)
    assert len(part.seeds) <= len(numbers)


def test_what_a_cell_ships_is_plain_data_and_does_not_grow_with_the_grid() -> None:
    shipper = shipping.shipper(BIG)
    shipped = pickle.dumps(shipper.pack(cells.cells_of(BIG, 8)[0]))
    assert len(shipped) < 2000 < len(pickle.dumps(BIG))


def test_a_cell_is_trained_alike_where_the_users_files_are_not() -> None:
    Path("mine.py").write_text(MINE)
    chosen = grid("mine.py:mine", modes=["zero_grad", "mine.py:thirds,every=2:sum"])
    numbers = [0, 1, 2, 3, 4, 5]
    here = cells.train_cell(chosen, numbers)
    assert here.status == ["done", "failed", "done"] * 2
    shipment = pickle.loads(pickle.dumps(shipping.shipper(chosen).pack(numbers)))  # noqa: S301 - ours
    Path("mine.py").unlink()
    unpacked = shipping.unpack(shipment, Path("elsewhere"))
    there = unpacked.block(cells.train_cell(unpacked.grid, shipment.numbers), shipment)
    assert there == here
    assert f'File "{Path.cwd()}/mine.py", line 7' in there.error[1]


def test_the_file_in_its_own_place_is_used_where_it_is_the_same_and_another_one_is_not() -> None:
    Path("mine.py").write_text(MINE)
    shipment = shipping.shipper(grid("mine.py:mine")).pack([0])
    assert shipping.unpack(shipment, Path("elsewhere")).grid.experiment["task"] == f"{Path.cwd()}/mine.py:mine"
    Path("mine.py").write_text("raise OSError")
    (unpacked,) = {shipping.unpack(shipment, Path("elsewhere")).grid.experiment["task"] for _ in range(2)}
    assert unpacked == f"{Path.cwd()}/elsewhere/{shipment.files[0].sha256}/mine.py:mine"
    Path(unpacked.removesuffix(":mine")).write_text("damaged")
    shipping.unpack(shipment, Path("elsewhere"))
    assert Path(unpacked.removesuffix(":mine")).read_text() == MINE


def test_files_of_one_name_are_told_apart_and_so_is_a_task_that_varies() -> None:
    for folder in "ab":
        Path(folder).mkdir()
        Path(folder, "mine.py").write_text(MINE + f"# {folder}")
    chosen = grid("a/mine.py:mine", "task=a/mine.py:mine,b/mine.py:mine")
    shipment = shipping.shipper(chosen).pack(range(chosen.runs))
    for folder in "ab":
        Path(folder, "mine.py").unlink()
    unpacked = shipping.unpack(shipment, Path("elsewhere"))
    files = [Path(str(task).removesuffix(":mine")) for task in unpacked.grid.axes[0].values]
    assert [file.read_text()[-1] for file in files] == ["a", "b"]
    assert [unpacked.told(str(file)) for file in files] == [str(Path(each, "mine.py").resolve()) for each in "ab"]


def test_a_module_that_is_another_one_on_a_worker_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("of_mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(Path.cwd())
    shipment = shipping.shipper(grid("of_mine:mine")).pack([0])
    assert not shipping.unpack(shipment, Path("elsewhere")).moved
    Path("of_mine.py").write_text(MINE + "# changed")
    with pytest.raises(TaskError, match="task 'of_mine:mine' is another one on a worker than here"):
        shipping.unpack(shipment, Path("elsewhere"))


def test_a_worker_with_other_versions_trains_nothing() -> None:
    shipment = shipping.shipper(grid()).pack([0])
    other = shipment._replace(versions=shipment.versions | {"torch": "1.0"})
    with pytest.raises(ClusterError, match=r"a worker has torch .*, and here is torch 1\.0: results depend on it"):
        shipping.unpack(other, Path("elsewhere"))


# A cluster that cannot be used


@pytest.mark.slow
@pytest.mark.skipif(find_spec("distributed") is None, reason="Dask is not installed: pip install '.[dask]'")
def test_an_address_where_nothing_answers_is_told_in_seconds_and_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster, "CONNECT", 0.2)
    command = ["sweep", "--task", "noisy_line", "--vary", "lr=0.1,0.2", "--dask"]
    for address, said in [
        ("tcp://127.0.0.1:9", "--dask tcp://127.0.0.1:9: nothing answers there within 0.2 seconds\n"),
        ("nonsense", "--dask nonsense: missing port number in address 'nonsense'\n"),
        ("mqtt://127.0.0.1:9", "--dask mqtt://127.0.0.1:9: unknown address scheme 'mqtt'"),
        ("nosuch.json", "--dask nosuch.json: there is no such file of a scheduler\n"),
    ]:
        answer = CliRunner().invoke(app, [*command, address], prog_name="gradlab")
        assert (answer.exit_code, answer.stdout) == (2, "")
        assert answer.stderr.startswith(said)
        assert len(answer.stderr.splitlines()) <= 2
    assert not Path("runs").exists()


def test_dask_that_is_not_installed_is_told_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match=r"--dask needs the package distributed: pip install 'gradlab\[dask\]'"):
        Cluster("tcp://127.0.0.1:9").__enter__()


def test_workers_of_this_machine_and_a_cluster_are_not_both_to_be_had() -> None:
    command = ["sweep", "--task", "noisy_line", "--vary", "lr=0.1,0.2", "--dask", "here:1", "--workers", "2"]
    answer = CliRunner().invoke(app, command, prog_name="gradlab")
    assert (answer.exit_code, answer.stderr) == (
        2, "--workers and --dask: train on this machine or on a cluster, not both\n",
    )  # fmt: skip


class Answering:
    """A client of a scheduler whose workers answer this."""

    def __init__(self, workers: dict[str, Any], scheduler: Exception | None = None) -> None:
        self.workers, self.scheduler = workers, scheduler

    def nthreads(self, **_: Any) -> dict[str, int]:
        return dict.fromkeys(self.workers, 1)

    def run(self, *_: Any, **__: Any) -> dict[str, Any]:
        return self.workers

    def run_on_scheduler(self, *_: Any, **__: Any) -> None:
        if self.scheduler:
            raise self.scheduler


MISSING = ModuleNotFoundError("No module named 'gradlab'")


@pytest.mark.parametrize(
    ("client", "said"),
    [
        (Answering({}), "the scheduler at tcp://a:1 has no workers; start one: dask worker tcp://a:1"),
        (Answering({"tcp://b:2": MISSING}), "worker tcp://b:2 cannot import gradlab as it is here: No module named"),
        (Answering({"tcp://b:2": remote.versions()}, MISSING), "the scheduler cannot import gradlab as it is here"),
        (
            Answering({"tcp://b:2": remote.versions(), "tcp://c:3": remote.versions() | {"python": "3.0"}}),
            "worker tcp://c:3 has python 3.0, and here is python",
        ),
        (
            Answering({"tcp://b:2": {"gradlab": "0.0"} | {"python": remote.versions()["python"]}}),
            "worker tcp://b:2 has gradlab 0.0, torch missing, and here is gradlab",
        ),
    ],
)
def test_workers_that_cannot_train_what_is_trained_here_are_refused(
    client: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECT", 0.0)
    found = Cluster("tcp://a:1")
    found.client = client
    with pytest.raises(GradlabError) as raised:
        found._look()  # entering it connects first, which needs Dask and a scheduler
    assert str(raised.value).startswith(said)
    assert "\n" not in str(raised.value)
