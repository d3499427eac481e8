"""Hashes of tensors, batches and states, by type, shape and content."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping, Sequence
from contextlib import suppress


def hash_of(value: object) -> str:
    """Return the SHA-256 of the type, shape and content of nested tensors, arrays and plain values."""
    digest = hashlib.sha256()
    _feed(digest, value)
    return digest.hexdigest()


def _feed(digest: hashlib._Hash, value: object, around: tuple[int, ...] = ()) -> None:
    """Feed the digest with type, shape and content of `value`; `around` holds the ids of the objects around it."""
    import torch

    digest.update(type(value).__name__.encode())
    if id(value) in around:
        return  # a reference cycle
    inside = (*around, id(value))
    if isinstance(value, torch.Tensor):
        dense = value.detach() if value.layout == torch.strided else value.detach().to_dense()
        digest.update(f"{dense.dtype}{tuple(dense.shape)}".encode())
        digest.update(dense.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return
    if isinstance(value, Mapping):
        for key, each in value.items():
            _feed(digest, key, inside)
            _feed(digest, each, inside)
        digest.update(str(len(value)).encode())
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for each in value:
            _feed(digest, each, inside)
        digest.update(str(len(value)).encode())
    elif not _attributes(value) or isinstance(value, str | bytes):
        with suppress(pickle.PicklingError, TypeError, AttributeError):  # then only the type counts
            digest.update(pickle.dumps(value))
    for name, each in _attributes(value).items():
        digest.update(name.encode())
        _feed(digest, each, inside)


def _attributes(value: object) -> dict[str, object]:
    """Return the attributes of an object, from `__dict__` and slots, and the content of an array."""
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    held = {name: getattr(value, name) for name in slots if hasattr(value, name)} | dict(
        getattr(value, "__dict__", {})
    )
    if hasattr(value, "__array_interface__") and not isinstance(value, type):
        held["array"] = (value.tobytes(), value.shape, str(value.dtype))  # type: ignore[attr-defined]  # NumPy's
    return held
