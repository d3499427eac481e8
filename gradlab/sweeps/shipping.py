"""Ships a cell to another machine, with its required versions and the source of the user's code."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gradlab import __version__, optimizers, schedules, tasks, user_code
from gradlab.errors import ClusterError, GradlabError
from gradlab.sweeps.cells import Cell
from gradlab.sweeps.training import train_cell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gradlab.store import Block
    from gradlab.sweeps.grid import Grid
    from gradlab.sweeps.training import OnProgress
    from gradlab.user_code import FunctionName


class Shipment(NamedTuple):
    """A cell to be trained on another machine.

    Attributes:
        cell: the cell; the user's code in it has absolute file paths.
        files: the content of these files at the start of the sweep, by path on the user's machine.
        modules: the user's code in modules, with the SHA-256 of the file, which must match on the worker.
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
    found = {word: _FINDERS[kind](word, folder) for kind, word in _words_of(grid)}
    named = {word: each for word, each in found.items() if isinstance(each, user_code.FunctionName)}
    whole = {word: f"{each.file}:{each.function}" for word, each in named.items() if each.file}
    own = [each for each in (*named.values(), *(mode.own for mode in grid.modes)) if each]
    sources = {each: user_code.source_hash(each) for each in own}
    files = {str(each.file): each.file.read_bytes() for each in own if each.file}
    modules = {each: sha256 for each, sha256 in sources.items() if each.module}
    installed = versions()

    def ship(cell: Cell) -> Shipment:
        return Shipment(_renamed(cell, lambda word: whole.get(word, word), {}), files, modules, installed)

    return ship


_FINDERS: dict[str, Callable[[str, Path | None], FunctionName | str]] = {
    "task": tasks.find,
    "optimizer": optimizers.find,
    "schedule": schedules.find,
}
_AXES = {"task": "task", "optimizer.name": "optimizer", "schedule": "schedule", "schedule.name": "schedule"}


def _words_of(grid: Grid) -> Iterator[tuple[str, str]]:
    """Yield the names of tasks, optimizers and schedules in the runs of a grid, each with its kind."""
    for kind in _FINDERS:
        given = grid.experiment[kind]
        if given is not None:
            yield kind, given if isinstance(given, str) else given["name"]
    for axis in grid.axes:
        if axis.key in _AXES:
            yield from ((_AXES[axis.key], word) for word in axis.values if isinstance(word, str))


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


def _renamed(cell: Cell, renamed: Callable[[str], str], files: Mapping[str, str]) -> Cell:
    """Return the cell with other names of tasks, optimizers and schedules, and other files of modes."""
    keys = [axis.key for axis in cell.grid.axes]
    runs = []
    for run in cell.runs:
        pairs = zip(keys, run.values, strict=True)
        values = tuple(renamed(value) if key in _AXES and isinstance(value, str) else value for key, value in pairs)
        own, mode = run.mode.own, run.mode
        if own and str(own.file) in files:
            mode = mode._replace(own=own._replace(file=Path(files[str(own.file)])))
        runs.append(run._replace(values=values, mode=mode))
    experiment = dict(cell.grid.experiment)
    for kind in _FINDERS:
        given = experiment[kind]
        if isinstance(given, dict):
            experiment[kind] = given | {"name": renamed(given["name"])}
        elif given is not None:
            experiment[kind] = renamed(given)
    return Cell(cell.grid._replace(experiment=experiment), runs)


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
