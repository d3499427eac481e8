"""What a cell is to another machine: plain data, no more than its runs need, and the source of a user's own code."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gradlab import modes, runs, tasks, user_code
from gradlab.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradlab.store import Block
    from gradlab.sweeps.grid import Grid
    from gradlab.user_code import FunctionName


class Source(NamedTuple):
    """A file of a user's own tasks or modes, as it was when the sweep began.

    Attributes:
        path: where it is, on the machine of the user.
        content: of it.
    """

    path: str
    content: bytes

    @property
    def sha256(self) -> str:
        """Of the content."""
        return hashlib.sha256(self.content).hexdigest()


class Module(NamedTuple):
    """A module of a user's own tasks or modes, which must be the same wherever it is imported.

    Attributes:
        named: the function in it.
        sha256: of its file.
    """

    named: FunctionName
    sha256: str | None


class Shipment(NamedTuple):
    """A cell on its way to where it is trained.

    Attributes:
        grid: of its runs; files of a user are named by their whole paths.
        numbers: of its runs, in that grid.
        runs: their numbers in the sweep.
        files: that its tasks and modes stand in.
        modules: likewise.
        versions: on which the results depend.
    """

    grid: Grid
    numbers: list[int]
    runs: tuple[int, ...]
    files: tuple[Source, ...]
    modules: tuple[Module, ...]
    versions: dict[str, str]


class Shipper(NamedTuple):
    """Packs the cells of one sweep."""

    grid: Grid
    files: tuple[Source, ...]
    modules: tuple[Module, ...]
    versions: dict[str, str]

    def pack(self, cell: Sequence[int]) -> Shipment:
        """Return the cell as it is shipped."""
        part, numbers = self.grid.part(cell)
        return Shipment(part, numbers, tuple(cell), self.files, self.modules, self.versions)


def shipper(grid: Grid) -> Shipper:
    """Read the files of a user's own tasks and modes, once for all cells of a sweep.

    Raises:
        GradlabError: one cannot be read.
    """
    folder = Path(grid.folder) if grid.folder else None
    own: list[FunctionName] = []

    def whole(word: str, named: FunctionName | None) -> str:
        """Return the word of a task or mode with the whole path of its file."""
        if named is None or not (named.file or named.module):
            return word
        own.append(named)
        return word if named.file is None else f"{named.file}{word[word.rindex(f'.py:{named.function}') + 3 :]}"

    changed = _renamed(
        grid,
        lambda task: whole(task, tasks.find(task, folder)),
        lambda mode: whole(mode, modes.parse(mode, folder).own),
    )
    files = {named.file: _read(named) for named in own if named.file}
    modules = {named.module: Module(named, user_code.source_hash(named)) for named in own if named.module}
    versions = runs.versions_of(grid.experiment_at(next(grid.points())))
    return Shipper(changed, tuple(files.values()), tuple(modules.values()), versions)


class Unpacked(NamedTuple):
    """A cell where it is trained.

    Attributes:
        grid: of its runs, the files of a user where they are here.
        moved: where these are here, and where on the machine of the user.
    """

    grid: Grid
    moved: dict[str, str]

    def told(self, text: str) -> str:
        """Return a text with the paths of the user's own machine."""
        for here, there in self.moved.items():
            text = text.replace(here, there)
        return text

    def block(self, block: Block, shipment: Shipment) -> Block:
        """Return what came of the cell as if it had been trained where the user is."""
        return block._replace(
            run=list(shipment.runs), error=[self.told(each) for each in block.error], why=self.told(block.why)
        )


def unpack(shipment: Shipment, folder: Path) -> Unpacked:
    """Put the files of a user where they can be imported: under `folder`, unless the same are there by their paths.

    Raises:
        ClusterError: other versions are installed here, on which results depend.
        GradlabError: a module is not here, or is another one.
    """
    for named, sha256 in shipment.modules:
        if user_code.source_hash(named) != sha256:
            raise named.error(" is another one on a worker than here: install the same on both")
    moved = {}
    for source in shipment.files:
        here = _placed(source, folder)
        if here != source.path:
            moved[here] = source.path

    def renamed(word: str) -> str:
        for here, there in moved.items():
            if word.startswith(f"{there}:"):
                return here + word[len(there) :]
        return word

    grid = _renamed(shipment.grid, renamed, renamed)
    there = runs.versions_of(grid.experiment_at(next(grid.points())))
    if there != shipment.versions:
        raise ClusterError(unlike("a worker", there, shipment.versions))
    return Unpacked(grid, moved)


def unlike(who: str, there: dict[str, str], here: dict[str, str]) -> str:
    """Say that there are other versions elsewhere than here."""
    differ = [name for name in here if there.get(name) != here[name]]
    has = ", ".join(f"{name} {there.get(name, 'missing')}" for name in differ)
    wanted = ", ".join(f"{name} {here[name]}" for name in differ)
    return f"{who} has {has}, and here is {wanted}: results depend on it; install the same on both"


def _renamed(grid: Grid, task: Callable[[str], str], mode: Callable[[str], str]) -> Grid:
    """Return the grid with other words for its tasks and modes."""
    axes = tuple(
        axis._replace(values=tuple(map(task, axis.values))) if axis.key == "task" else axis for axis in grid.axes
    )
    plain = {"task": task(grid.experiment["task"]), "modes": list(modes.DEFAULT)}  # those of the grid take its place
    words = tuple(map(mode, grid.modes))
    return grid._replace(experiment=grid.experiment | plain, axes=axes, modes=words)


def _read(named: FunctionName) -> Source:
    assert named.file, "a function in a file"
    try:
        return Source(str(named.file), named.file.read_bytes())
    except OSError as error:
        raise named.error(f": {named.file} cannot be read: {error.strerror}") from None


def _placed(source: Source, folder: Path) -> str:
    """Return where the file is here: by its own path, or written in a folder that is named after its content."""
    given = Path(source.path)
    if _holds(given, source):
        return source.path
    file = folder / source.sha256 / given.name
    if not _holds(file, source):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = file.with_name(f"{os.getpid()}.part")
        draft.write_bytes(source.content)
        draft.replace(file)  # several processes of a worker may be at it
    return str(file.resolve())


def _holds(file: Path, source: Source) -> bool:
    try:
        return file.read_bytes() == source.content
    except OSError:
        return False
