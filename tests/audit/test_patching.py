"""The audit restores everything that it patches."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from gradlab import audit
from gradlab.audit.hooks.patching import Patches
from tests.audit.training import multiplied, train

Originals = dict[tuple[Any, str], Any]


@pytest.fixture
def originals(monkeypatch: pytest.MonkeyPatch) -> Originals:
    """Return a record of the original functions that are patched from now on."""
    noted: Originals = {}

    def noting(name: str) -> None:
        method = getattr(Patches, name)

        def call(self: Patches, owner: Any, patched: str, *args: Any, **kwargs: Any) -> None:
            if patched in vars(owner):
                noted.setdefault((owner, patched), vars(owner)[patched])
            method(self, owner, patched, *args, **kwargs)

        monkeypatch.setattr(Patches, name, call)

    noting("around")
    noting("replace")
    return noted


def differing(originals: Originals) -> set[str]:
    """Return the names of functions that differ from the originals."""
    return {name for (owner, name), own in originals.items() if vars(owner)[name] is not own}


def test_patched_functions_differ_only_during_the_watch(originals: Originals) -> None:
    with audit.watch():
        assert differing(originals) == {name for _, name in originals}
    assert differing(originals) == set()
    assert {"backward", "zero_grad", "scale", "unscale_"} <= {name for _, name in originals}


def around_torch() -> list[object]:
    """Return everything else that the audit changes: functions inside torch's decorators, hooks, and Python's finders.

    torch has no public names for the first two.
    """
    from torch.nn.utils import clip_grad, clip_grad_value_
    from torch.optim import optimizer

    decorated = (clip_grad._clip_grads_with_norm_, clip_grad_value_)
    return [
        *(cell.cell_contents for each in decorated for cell in each.__closure__ or ()),
        list(optimizer._global_optimizer_pre_hooks),
        list(optimizer._global_optimizer_post_hooks),
        list(sys.meta_path),
    ]


def test_everything_is_restored_after_the_last_of_nested_watches(originals: Originals) -> None:
    before = around_torch()
    with audit.watch() as outer:
        with audit.watch() as inner:
            train(multiplied(0.0))
        assert around_torch() != before
        assert differing(originals) == {name for _, name in originals}
        train(multiplied(1.0))
    assert around_torch() == before
    assert differing(originals) == set()
    assert (len(inner.optimizers), len(outer.optimizers)) == (1, 2)


def test_everything_is_restored_where_the_script_raises(originals: Originals) -> None:
    before = around_torch()
    with pytest.raises(ZeroDivisionError), audit.watch():
        raise ZeroDivisionError
    assert around_torch() == before
    assert (differing(originals), torch.autograd.backward in originals.values()) == (set(), True)
