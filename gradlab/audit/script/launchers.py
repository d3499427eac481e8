"""Launchers: programs that start a training in other processes, and how to audit it there."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gradlab.errors import AuditError, shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

AUDIT = ["gradlab", "audit"]
AS_MODULE = ("-m", "--module")


class Launcher(NamedTuple):
    """A program that starts scripts in other processes."""

    command: tuple[str, ...]
    modules: tuple[str, ...]  # that do the same with `python -m`
    options: tuple[str, ...] = ("-m",)  # that make it start a module
    refuses: tuple[str, ...] = ()  # options of a module that the command does not have


LAUNCHERS = {
    "torchrun": Launcher(
        ("torchrun",), ("torch.distributed.run", "torch.distributed.launch"), refuses=("--use-env", "--use_env")
    ),
    "accelerate": Launcher(
        ("accelerate", "launch"), ("accelerate.commands.launch", "accelerate.commands.accelerate_cli")
    ),
    "deepspeed": Launcher(
        ("deepspeed",), ("deepspeed.launcher.runner", "deepspeed.launcher.launch"), ("--module", "--no_local_rank")
    ),
}


def refuse_launcher(name: str, args: Sequence[str], *, is_module: bool) -> None:
    """Refuse to audit a launcher.

    Raises:
        AuditError: this script or module is one; the message has the command that works.
    """
    if launcher := _launcher_of(name, is_module=is_module):
        raise AuditError(
            f"'{shortened(name)}' starts the training in other processes, which this audit cannot watch. "
            f"Put it first: `{_working(launcher, args)}`"
        )


def _launcher_of(name: str, *, is_module: bool) -> Launcher | None:
    path = Path(name)
    place = path.absolute().as_posix()
    for command, launcher in LAUNCHERS.items():
        if is_module:
            is_one = name in launcher.modules
        elif path.suffix == ".py":
            is_one = any(place.endswith(_file_of(each)) for each in launcher.modules)
        elif path.is_file():
            is_one = any(f"from {each} import".encode() in path.read_bytes() for each in launcher.modules)
        else:
            is_one = name in (command, f"{command}-launch")
        if is_one:
            return launcher
    return None


def _file_of(module: str) -> str:
    return f"/site-packages/{module.replace('.', '/')}.py"


def _working(launcher: Launcher, args: Sequence[str]) -> str:
    """Return the command that audits what this launcher starts.

    >>> _working(LAUNCHERS["torchrun"], ["--nproc-per-node", "2", "train.py", "--lr", "1"])
    'torchrun --nproc-per-node 2 -m gradlab audit train.py --lr 1'
    >>> _working(LAUNCHERS["accelerate"], ["launch", "-m", "package.train"])
    'accelerate launch -m gradlab audit -m package.train'
    """
    words = list(args)
    if words[: len(launcher.command) - 1] == list(launcher.command[1:]):
        del words[: len(launcher.command) - 1]
    start = next((nth for nth, word in enumerate(words) if word in AS_MODULE or word.endswith(".py")), None)
    if start is None:
        return " ".join([*launcher.command, "[OPTIONS]", *launcher.options, *AUDIT, "SCRIPT.py", "[ARGS]"])
    own, script = words[:start], ["-m" if words[start] in AS_MODULE else words[start], *words[start + 1 :]]
    own = [word for word in own if word not in launcher.refuses]
    return shlex.join([*launcher.command, *own, *launcher.options, *AUDIT, *script])


def torchrun_of(name: str, args: Sequence[str], processes: int, *, is_module: bool) -> str:
    """Return the command by which torchrun starts this script in several processes under the audit."""
    script = ["-m", name, *args] if is_module else [name, *args]
    return shlex.join(["torchrun", "--nproc-per-node", str(processes), "-m", *AUDIT, *script])
