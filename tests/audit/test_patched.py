"""All that the audit puts in the place of torch's own is put back, whatever it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradlab import audit
from gradlab.audit import active
from gradlab.audit.patching import Patches

if TYPE_CHECKING:
    import pytest


class Noting(Patches):
    """Patches that note what was there before."""

    def __init__(self) -> None:
        super().__init__()
        self.before: dict[tuple[Any, str], Any] = {}

    def _note(self, owner: Any, name: str) -> None:
        if name in vars(owner):
            self.before.setdefault((owner, name), vars(owner)[name])

    def around(self, owner: Any, name: str, *args: Any, **kwargs: Any) -> None:
        self._note(owner, name)
        super().around(owner, name, *args, **kwargs)

    def replace(self, owner: Any, name: str, made: Any) -> None:
        self._note(owner, name)
        super().replace(owner, name, made)


def test_each_function_that_is_patched_differs_during_the_watch_and_is_torchs_own_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    patches = Noting()
    monkeypatch.setattr(active, "_patches", patches)
    with audit.watch():
        assert [key for key, own in patches.before.items() if vars(key[0])[key[1]] is own] == []
    assert [key for key, own in patches.before.items() if vars(key[0])[key[1]] is not own] == []
    assert {"backward", "zero_grad", "scale", "unscale_"} <= {name for _, name in patches.before}
