"""Ships a cell to another machine, with its required versions and the source of the user's code."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gradlab import __version__, tasks, user_code
from gradlab.errors import ClusterError, GradlabError
from gradlab.sweeps.cells import Cell
from gradlab.sweeps.training import train_cell

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gradlab.store import Block
    from gradlab.sweeps.grid import Grid
    from gradlab.sweeps.training import OnProgress
    from gradlab.user_code import FunctionName


class Shipment(NamedTuple):
    """A cell to be trained on another machine.

    Attributes:
        cell: the cell; its tasks and modes have absolute file paths.
        files: the content of these files at the start of the sweep, by path on the user's machine.
        modules: tasks and modes in modules, with the SHA-256 of the file, which must match on the worker.
        versions: the versions that results depend on.
    """

    cell: Cell
    files: dict[str, bytes]
    modules: dict[FunctionName, str | None]
    versions: dict[str, str]


def shipper(grid: Grid) -> Callable[[Cell], Shipment]:
    """Return a function that ships a cell; the user's files are read once per sweep.

    Raises:
        GradlabError: a file cannot be read.
    """
    folder = Path(grid.folder) if grid.folder else None
    words = [grid.experiment["task"], *(value for axis in grid.axes if axis.key == "task" for value in axis.values)]
    named = {word: tasks.find(word, folder) for word in words}
    whole = {word: f"{task.file}:{task.function}" for word, task in named.items() if task.file}
    own = [each for each in (*named.values(), *(mode.own for mode in grid.modes)) if each]
    sources = {each: user_code.source_hash(each) for each in own}
    files = {str(each.file): each.file.read_bytes() for each in own if each.file}
    modules = {each: sha256 for each, sha256 in sources.items() if each.module}
    installed = versions()

    def ship(cell: Cell) -> Shipment:
        return Shipment(_renamed(cell, lambda word: whole.get(word, word), {}), files, modules, installed)

    return ship


def train_shipment(sent: tuple[Shipment, Path], on_progress: OnProgress) -> Block:
    """Train a shipped cell; called on a worker.

    Files are written to the given folder, unless the same file is at its original path. Errors name the paths of the
    user's machine.

    Raises:
        ClusterError: other versions are installed on the worker.
        GradlabError: a module is missing or differs on the worker, or `train_cell` raised it.
    """
    shipment, folder = sent
    check_versions("a worker", versions(), shipment.versions)
    for named, sha256 in shipment.modules.items():
        if user_code.source_hash(named) != sha256:
            raise named.error(" differs between a worker and this machine; install the same version on both")
    files = {path: _placed(Path(path), content, folder) for path, content in shipment.files.items()}

    def placed(word: str) -> str:
        path, _, function = word.rpartition(":")
        return f"{files[path]}:{function}" if path in files else word

    def as_sent(text: str) -> str:
        for path, copy in files.items():
            text = text.replace(copy, path)
        return text

    try:
        block = train_cell(_renamed(shipment.cell, placed, files), on_progress)
    except GradlabError as error:
        raise type(error)(as_sent(str(error))) from None
    return block._replace(error=[as_sent(each) for each in block.error], why=as_sent(block.why))


def _renamed(cell: Cell, task: Callable[[str], str], files: Mapping[str, str]) -> Cell:
    """Return the cell with other task names and mode files."""
    keys = [axis.key for axis in cell.grid.axes]
    runs = []
    for run in cell.runs:
        pairs = zip(keys, run.values, strict=True)
        values = tuple(task(value) if key == "task" else value for key, value in pairs)
        own, mode = run.mode.own, run.mode
        if own and str(own.file) in files:
            mode = mode._replace(own=own._replace(file=Path(files[str(own.file)])))
        runs.append(run._replace(values=values, mode=mode))
    experiment = cell.grid.experiment
    return Cell(cell.grid._replace(experiment=experiment | {"task": task(experiment["task"])}), runs)


def _placed(path: Path, content: bytes, folder: Path) -> str:
    """Return the path of the file on this machine; write it to a folder named after its hash if necessary."""
    file = folder.resolve() / hashlib.sha256(content).hexdigest() / path.name
    for each in (path, file):
        with suppress(OSError):
            if each.read_bytes() == content:
                return str(each)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = file.with_name(f"{os.getpid()}.part")
    draft.write_bytes(content)
    draft.replace(file)  # several processes of a worker may write it at once
    return str(file)


def versions() -> dict[str, str]:
    """Return the installed versions that results depend on, without importing torch."""
    found = {"gradlab": __version__, "python": platform.python_version()}
    with suppress(importlib.metadata.PackageNotFoundError):
        found["torch"] = importlib.metadata.version("torch")
    return found


def check_versions(who: str, found: Mapping[str, str], required: Mapping[str, str]) -> None:
    """Raise a ClusterError if a worker's versions differ from the required ones."""
    if differ := [name for name in required if found.get(name) != required[name]]:
        has = ", ".join(f"{name} {found.get(name, 'missing')}" for name in differ)
        wanted = ", ".join(f"{name} {required[name]}" for name in differ)
        raise ClusterError(
            f"{who} has {has}, but this machine has {wanted}; install the same versions, since results depend on them"
        )
