"""What to compare: the script, its modes and seeds, and where a run ends."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab import modes
from gradlab.errors import CompareError, shortened
from gradlab.experiment import identity
from gradlab.modes import AS_WRITTEN
from gradlab.wording import either

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gradlab.modes import Mode
    from gradlab.store import ExperimentFolder, RunFolder

DEFAULT_SEED = 42
THREADS = 1  # of torch in every run, as `gradlab run` has by default


class ScriptFile(NamedTuple):
    """A user's script.

    Attributes:
        name: as given, a file or a module.
        stem: the name of its experiment.
        folder: what is copied for every run: the current folder if the script is in it, else the script's.
        at: the script within that folder, or the module's name.
    """

    name: str
    stem: str
    folder: Path
    at: str
    is_module: bool
    sha256: str

    @property
    def path(self) -> Path:
        """The script, or the module without its suffix."""
        return self.folder.joinpath(*self.at.split(".")) if self.is_module else self.folder / self.at


class CompareRequest(NamedTuple):
    """A comparison of a script under several modes."""

    script: ScriptFile
    args: tuple[str, ...]
    modes: tuple[Mode, ...]  # without as_written, which always runs
    seeds: tuple[int, ...]
    threads: int = THREADS
    most_passes: int | None = None  # --max-steps
    timeout: float | None = None  # seconds
    only: int | None = None  # the number of an optimizer
    in_place: bool = False
    fresh: bool = False
    jobs: int = 1

    def settings(self, mode: Mode | None, seed: int) -> dict[str, Any]:
        """Return what decides the rows of a run, except for files that the script imports."""
        source: dict[str, Any] = {}
        if mode is not None and mode.own is not None and mode.own.file is not None:
            source = {"mode_source": _sha256(mode.own.file)}
        return {
            "script": self.script.at,
            "script_source": self.script.sha256,
            "args": list(self.args) or None,
            "mode": AS_WRITTEN if mode is None else mode.name,
            **source,
            "seed": seed,
            "threads": self.threads,
            "max_steps": self.most_passes,
            "only_optimizer": self.only,
            "in_place": self.in_place or None,
        }

    def plan(self, mode: Mode | None, seed: int, folder: ExperimentFolder) -> ScriptPlan:
        """Return the plan of one run, whose folder is in that of all runs of the script."""
        settings = self.settings(mode, seed)
        name = settings["mode"]
        return ScriptPlan(mode, seed, folder.run(name, seed, identity(settings)), settings)

    @property
    def identity(self) -> str:
        """The identity of the unmodified script with these arguments and limits, for all seeds."""
        return identity({**self.settings(None, 0), "seed": None})

    @property
    def runs(self) -> int:
        """The number of runs."""
        return (1 + len(self.modes)) * len(self.seeds)

    @property
    def title(self) -> str:
        """The script with its arguments, as the user gave them."""
        return shortened(shlex.join([self.script.name, *self.args]), 200)

    @property
    def mode_names(self) -> list[str]:
        """The modes in display order."""
        return [AS_WRITTEN, *(mode.name for mode in self.modes)]


class ScriptPlan(NamedTuple):
    """One run of the script: under a mode, or without one as it is written."""

    mode: Mode | None
    seed: int
    folder: RunFolder
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of the run's mode."""
        return AS_WRITTEN if self.mode is None else self.mode.name

    @property
    def title(self) -> str:
        """The run in messages."""
        return f"{self.name} seed {self.seed}"


def find_script(name: str, *, is_module: bool) -> ScriptFile:
    """Return the script of this name, a file or with `is_module` a module, without running it.

    Raises:
        CompareError: it does not exist or cannot be read.
    """
    here = Path.cwd()
    if is_module:
        file = _module_file(name, here)
        return ScriptFile(name, name.rpartition(".")[2], here, name, is_module, _sha256(file))
    path = Path(name)
    if path.is_dir():
        module = either("--module package.module", '"package.module" with module=True')
        raise CompareError(f"script '{shortened(name)}' is a folder; give a file in it, or {module}")
    try:
        sha256 = _sha256(path)
    except OSError as error:
        raise CompareError(f"script '{shortened(name)}' cannot be read: {error.strerror}") from None
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links
    folder = here if whole.is_relative_to(here) else whole.parent
    return ScriptFile(name, path.stem, folder, str(whole.relative_to(folder)), is_module, sha256)


def parse_modes(words: Mapping[str, None] | list[str]) -> tuple[Mode, ...]:
    """Return the modes of these words, each once; the default three if there are none.

    A user's own mode is imported, so that a mistake in it shows before the script runs.

    Raises:
        ModeError: a mode is unknown, or a user's own cannot be imported.
    """
    parsed = [modes.load(modes.parse(word, Path.cwd())) for word in words or modes.DEFAULT]
    return tuple({mode.name: mode for mode in parsed}.values())


def chosen_seeds(seeds: Iterable[int] | None, name: str) -> tuple[int, ...]:
    """Return these seeds, each once; 42 if they are None.

    Raises:
        CompareError: none is given, or one is out of range; the message names `name`.
    """
    found = tuple(dict.fromkeys([DEFAULT_SEED] if seeds is None else seeds))
    wrong = [each for each in found if type(each) is not int or not 0 <= each < 2**32]
    if wrong or not found:
        got = f"got {shortened(repr(wrong[0]))}" if wrong else "got none"
        raise CompareError(f"{name} must be between 0 and 4294967295, {got}")
    return found


def _module_file(name: str, here: Path) -> Path:
    inside = here.joinpath(*name.split("."))
    for file in (inside.with_suffix(".py"), inside / "__main__.py"):
        if file.is_file():
            return file
    try:
        spec = importlib.util.find_spec(name.partition(".")[0])
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise CompareError(f"module '{shortened(name)}' has no .py file here or among installed packages")
    raise CompareError(f"module '{shortened(name)}' is not in this folder, so its runs cannot have a copy of it")


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
