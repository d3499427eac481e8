"""Running a user's script in this process, as `python SCRIPT` and `python -m MODULE` would.

It is `__main__`, its arguments are its own, its first place to import from is its folder; an exception that it
lets out is shown as Python shows it, without our frames. What differs: `sys.orig_argv`; and a signal that it does not
handle ends the process with the status 130 or 143 rather than by the signal itself.
"""

from __future__ import annotations

import builtins
import importlib.util
import os
import signal
import sys
import threading
from contextlib import suppress
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, NamedTuple

from gradlab.audit.places import add_audited, is_ours
from gradlab.errors import AuditError, shortened

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import CodeType

INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM


class Script(NamedTuple):
    """What is to be run: a file, or a module by its name."""

    name: str  # as it was given
    file: str
    code: CodeType
    spec: ModuleSpec | None = None  # of a module


def script(name: str, command: str) -> Script:
    """Return the script in a file, ready to run; its folder is from now on the first to import from.

    `command` is sys.argv[0] of our own command.

    Raises:
        AuditError: there is no such file, or it cannot be read.
        SyntaxError: it does not compile.
    """
    path = Path(name)
    if path.is_dir():
        raise AuditError(f"script '{shortened(name)}' is a folder; give a file of it, or -m package.module")
    try:
        source = path.read_bytes()
    except OSError as error:
        raise AuditError(f"script '{shortened(name)}' cannot be read: {error.strerror}") from None
    _import_first_from(path.resolve().parent, command)
    file = os.path.join(Path.cwd(), name)  # noqa: PTH118 - as Python joins it, which leaves a `..` where it is
    return Script(name, file, _compiled(source, file))


def module(name: str, command: str) -> Script:
    """Return the script that `python -m` runs by that name; a package's is its `__main__`.

    The current folder is from now on the first to import from, and the packages above the module are imported.

    Raises:
        AuditError: there is no such module.
        SyntaxError: it does not compile.
    """
    _import_first_from(Path.cwd(), command)
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
    except (ImportError, ValueError) as error:
        raise AuditError(f"module '{shortened(name)}' cannot be found: {error}") from None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise AuditError(f"there is no module '{shortened(name)}' that can be run, here or installed")
    return Script(name, spec.origin, _compiled(Path(spec.origin).read_bytes(), spec.origin), spec)


def _import_first_from(folder: Path, command: str) -> None:
    """Put the folder where Python has put the one of our own command; not where it has been told to put none (-P)."""
    if sys.flags.safe_path:
        return
    ours = {"", str(Path.cwd()), str(Path(command).parent)}
    sys.path[0 : int(bool(sys.path) and sys.path[0] in ours)] = [str(folder)]


def _compiled(source: bytes, file: str) -> CodeType:
    return compile(source, file, "exec", dont_inherit=True)


def run(chosen: Script, args: Sequence[str]) -> int:
    """Run it as `__main__` with these arguments, and return the exit status that Python would end with.

    Raises:
        KeyboardInterrupt: the script lets it out, or it came while its threads were waited for.
    """
    _become_main(chosen)
    for path in own_paths(chosen):
        add_audited(path)
    sys.argv = [chosen.name if chosen.spec is None else chosen.file, *args]
    status = _executed(chosen)
    _wait_for_threads()
    return status


def own_paths(chosen: Script) -> list[str]:
    """Return the script's own file, and the folder of the topmost package with code that it is a module of."""
    names = (chosen.spec.parent or "").split(".") if chosen.spec is not None else []
    packages = [sys.modules.get(".".join(names[: nth + 1])) for nth in range(len(names))]
    files = [each.__file__ for each in packages if each is not None and each.__file__]
    return [chosen.file, *(str(Path(file).parent) for file in files[:1] if names[0] != "torch")]  # its launcher


def _become_main(chosen: Script) -> None:
    main = ModuleType("__main__")
    own = {"__file__": chosen.file, "__spec__": chosen.spec, "__builtins__": builtins, "__cached__": None}
    vars(main).update(own, __annotations__={}, __loader__=SourceFileLoader("__main__", chosen.file))
    if chosen.spec is not None:
        vars(main).update(__package__=chosen.spec.parent, __loader__=chosen.spec.loader, __cached__=chosen.spec.cached)
    sys.modules["__main__"] = main


def _executed(chosen: Script) -> int:
    try:
        exec(chosen.code, vars(sys.modules["__main__"]))  # noqa: S102 - it is what we are asked for
    except SystemExit as end:
        return status_of(end)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the script lets out
        show(error)
        return 1
    return 0


def status_of(end: SystemExit) -> int:
    """Return the status of sys.exit(...); a text goes to stderr, as Python does."""
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 0xFF
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"{end.code}\n")
        sys.stderr.flush()
    return 1


def show(error: BaseException) -> None:
    """Show an exception by sys.excepthook, which may be the script's own, without the frames that are ours."""
    without_ours(error)
    try:
        sys.excepthook(type(error), error, error.__traceback__)
    except SystemExit:  # of a hook that ends the process: the status stays
        return
    except BaseException as of_hook:  # a hook that fails is shown, as Python does
        sys.__excepthook__(type(of_hook), of_hook, of_hook.__traceback__)
        sys.__excepthook__(type(error), error, error.__traceback__)


def without_ours(error: BaseException | None) -> None:
    """Take our frames out of the traceback of an exception and of those that it came from."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        each.__traceback__ = _rest(each.__traceback__)
        waiting += [each.__cause__, each.__context__, *(getattr(each, "exceptions", None) or ())]


def _rest(trace: TracebackType | None) -> TracebackType | None:
    frames = []
    while trace is not None:
        if not is_ours(trace.tb_frame.f_code.co_filename):
            frames.append(trace)
        trace = trace.tb_next
    rest: TracebackType | None = None
    for each in reversed(frames):
        rest = TracebackType(rest, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return rest


def _wait_for_threads() -> None:
    """Wait for what the script has left running, as Python does at its end."""
    for each in threading.enumerate():
        if each is not threading.current_thread() and not each.daemon:
            each.join()
