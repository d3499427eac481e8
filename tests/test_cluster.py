"""Sweeps on a Dask cluster: what a cell ships, and messages about a cluster that cannot be used."""

from __future__ import annotations

import pickle
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from gradlab import sweeps
from gradlab.cli import app
from gradlab.errors import ClusterError, GradlabError, TaskError
from gradlab.experiment import Override, from_task
from gradlab.sweeps import cells, cluster, grid_of, shipping
from gradlab.sweeps.cluster import Cluster

if TYPE_CHECKING:
    from gradlab.store import Block
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


def trained(shipment: shipping.Shipment) -> Block:
    return shipping.train_shipment((shipment, Path("elsewhere")), lambda *_: None)


def cell(chosen: Grid) -> cells.Cell:
    return cells.cell_of(chosen, range(chosen.runs))


def test_what_a_cell_ships_does_not_grow_with_the_grid() -> None:
    big = grid("noisy_line", "lr=1e-3:1:200:log", "keep=0:1:50", "batch_size=1,2", seeds=list(range(50)))
    shipment = shipping.shipper(big)(cells.cell_of(big, cells.cells_of(big, 8)[0]))
    assert len(pickle.dumps(shipment)) < 2000 < len(pickle.dumps(big))


def test_results_are_the_same_where_the_users_files_are_not() -> None:
    Path("mine.py").write_text(MINE)
    chosen = grid("mine.py:mine", modes=["zero_grad", "mine.py:thirds,every=2:sum"])
    here = sweeps.train_cell(cell(chosen))
    assert here.status == ["done", "failed", "done"] * 4
    shipment = pickle.loads(pickle.dumps(shipping.shipper(chosen)(cell(chosen))))  # noqa: S301 - ours
    Path("mine.py").unlink()
    there = trained(shipment)
    assert there == here
    assert f'File "{Path.cwd()}/mine.py", line 7' in there.error[1]
    assert len(list(Path("elsewhere").glob("*/mine.py"))) == 1


def test_a_file_is_used_in_its_place_only_where_it_is_the_same() -> None:
    Path("mine.py").write_text(MINE)
    shipment = shipping.shipper(grid("mine.py:mine"))(cell(grid("mine.py:mine")))
    trained(shipment)
    assert not Path("elsewhere").exists()
    Path("mine.py").write_text("raise OSError")
    for _ in range(2):
        assert trained(shipment).status == ["done", "failed", "done"] * 6
        (placed,) = Path("elsewhere").glob("*/mine.py")
        assert placed.read_text() == MINE
        placed.write_text("damaged")


def test_files_of_one_name_are_kept_apart() -> None:
    for folder, factor in (("a", 1), ("b", 2)):
        Path(folder).mkdir()
        Path(folder, "mine.py").write_text(MINE.replace(".mean()", f".mean() * {factor}"))
    chosen = grid("a/mine.py:mine", "task=a/mine.py:mine,b/mine.py:mine", seeds=[0], modes=["zero_grad"])
    shipment = shipping.shipper(chosen)(cell(chosen))
    for folder in "ab":
        Path(folder, "mine.py").unlink()
    parts = [shipment._replace(cell=shipment.cell._replace(runs=[run])) for run in shipment.cell.runs]
    (one,), (other,) = (trained(part).first_loss for part in parts)
    assert one
    assert other == 2 * one


def test_another_module_on_a_worker_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("of_mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(Path.cwd())
    shipment = shipping.shipper(grid("of_mine:mine"))(cell(grid("of_mine:mine")))
    assert trained(shipment).status == ["done", "failed", "done"] * 6
    Path("of_mine.py").write_text(MINE + "# changed")
    with pytest.raises(TaskError, match="task 'of_mine:mine' differs between a worker and this machine"):
        trained(shipment)


def test_a_worker_with_other_versions_trains_nothing() -> None:
    shipment = shipping.shipper(grid())(cell(grid()))
    other = shipment._replace(versions=shipment.versions | {"torch": "1.0"})
    with pytest.raises(
        ClusterError, match=r"a worker has torch .*, but this machine has torch 1\.0; install the same versions"
    ):
        trained(other)


# A cluster that cannot be used


@pytest.mark.slow
@pytest.mark.skipif(find_spec("distributed") is None, reason="Dask is not installed: pip install '.[dask]'")
def test_an_address_where_nothing_answers_fails_in_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_TIMEOUT", 0.2)
    command = ["sweep", "--task", "noisy_line", "--vary", "lr=0.1,0.2", "--dask"]
    for address, said in [
        ("tcp://127.0.0.1:9", "--dask tcp://127.0.0.1:9: no answer within 0.2 seconds\n"),
        ("nonsense", "--dask nonsense: missing port number in address 'nonsense'\n"),
        ("mqtt://127.0.0.1:9", "--dask mqtt://127.0.0.1:9: unknown address scheme 'mqtt'"),
        ("nosuch.json", "--dask nosuch.json: no such scheduler file\n"),
    ]:
        answer = CliRunner().invoke(app, [*command, address], prog_name="gradlab")
        assert (answer.exit_code, answer.stdout) == (2, "")
        assert answer.stderr.startswith(said)
        assert len(answer.stderr.splitlines()) <= 2
    assert not Path("runs").exists()


def test_missing_dask_is_an_error_with_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match=r"--dask needs the package distributed: pip install 'gradlab\[dask\]'"):
        Cluster("tcp://127.0.0.1:9").__enter__()


def test_workers_and_dask_exclude_one_another() -> None:
    command = ["sweep", "--task", "noisy_line", "--vary", "lr=0.1,0.2", "--dask", "here:1", "--workers", "2"]
    answer = CliRunner().invoke(app, command, prog_name="gradlab")
    assert (answer.exit_code, answer.stderr) == (
        2, "--workers and --dask exclude each other: --workers trains on this machine, --dask on a cluster\n",
    )  # fmt: skip


class Answering:
    """A client of a scheduler whose workers answer this."""

    def __init__(self, workers: dict[str, Any], scheduler: Exception | None = None) -> None:
        self.workers, self.scheduler = workers, scheduler

    def wait_for_workers(self, *_: Any, **__: Any) -> None:
        if not self.workers:
            raise TimeoutError

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
        (Answering({"tcp://b:2": MISSING}), "worker tcp://b:2 cannot import this version of gradlab: No module named"),
        (
            Answering({"tcp://b:2": shipping.versions()}, MISSING),
            "the scheduler cannot import this version of gradlab",
        ),
        (
            Answering({"tcp://b:2": shipping.versions(), "tcp://c:3": shipping.versions() | {"python": "3.0"}}),
            "worker tcp://c:3 has python 3.0, but this machine has python",
        ),
        (
            Answering({"tcp://b:2": {"gradlab": "0.0"} | {"python": shipping.versions()["python"]}}),
            "worker tcp://b:2 has gradlab 0.0, torch missing, but this machine has gradlab",
        ),
    ],
)
def test_workers_without_the_same_versions_are_refused(client: Any, said: str) -> None:
    found = Cluster("tcp://a:1")
    found.client = client
    with pytest.raises(GradlabError) as raised:
        found._check_workers()  # entering it connects first, which needs Dask and a scheduler
    assert str(raised.value).startswith(said)
    assert "\n" not in str(raised.value)
