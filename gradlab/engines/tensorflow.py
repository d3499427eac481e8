"""The same training in TensorFlow: `tf.GradientTape` replaces `loss.backward()`.

TensorFlow has no `zero_grad` because it has nothing to clear: every call of `tape.gradient` *returns* a new gradient.
PyTorch's `backward` *adds* to `.grad`. So plain TensorFlow is mode `zero_grad`. Code that sums the returned gradients
and never resets the sum is mode `no_zero_grad`.

This module writes out every mode, with the weights, batches and rule of `gradlab.engines.loop`, but keeps gradients in
a list instead of `.grad`. TensorFlow (`pip install 'gradlab[tensorflow]'`) is imported when training starts.
"""

from __future__ import annotations

import importlib.util
import math
import os
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, cast

from gradlab.engines.accumulation import windows
from gradlab.engines.cursor import Cursor
from gradlab.errors import ExperimentError, GradlabError, TaskError, kind_of, shortened
from gradlab.rows import Row
from gradlab.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import torch
    from torch import nn

    from gradlab.modes import Mode
    from gradlab.tasks import Task

    Apply = Callable[[Any], Any]  # a layer of TensorFlow: from a tensor to a tensor
    Loss = Callable[[Any, Any], Any]  # from outputs and targets to a scalar
    Variables = dict[torch.Tensor, Any]  # the tf.Variable of each parameter

_ENGINE = "engine 'tensorflow'"


def train(
    task: Task, mode: Mode, lr: float, *, epochs: int | None = None, steps: int | None = None, threads: int = 1
) -> Iterator[Row]:
    """Train by plain gradient descent in TensorFlow, and yield the same rows as `gradlab.engines.loop.train`.

    At the end, copy the trained weights into `task.model`; its `.grad` does not change. `zero_grad:fill` equals
    `zero_grad` here.

    Raises:
        TaskError: the model or loss cannot be converted, the converted loss differs from torch's, or an epoch has no
            batch.
        GradlabError: TensorFlow is not available, or already runs with another number of threads.
    """
    tf = start(threads)
    model, variables = _model(task)
    criterion = _criterion(task)
    weights = [variable for parameter, variable in variables.items() if parameter.requires_grad]
    zeros = [tf.zeros_like(w) for w in weights]
    gradients = zeros  # the counterpart of .grad in PyTorch
    cursor = Cursor()
    for batch, window, due in cursor.remaining(partial(windows, task.batches, mode.every), epochs, steps):
        expected = _torch_loss(task, batch) if cursor.step == 0 else None
        inputs, targets = batch
        with tf.GradientTape() as tape:
            loss = criterion(model(_tensor(inputs)), _tensor(targets))
            share = loss / window if mode.mean else loss
        fresh = tape.gradient(share, weights)  # of this batch alone
        gradients = [G + g for G, g in zip(gradients, fresh, strict=True)]  # backward() does this in PyTorch
        row = Row(cursor.step, cursor.update, cursor.epoch, float(loss))
        if expected is not None:
            _check_same(row.loss, expected)
        if due:
            for w, gradient in zip(weights, gradients, strict=True):
                w.assign_sub(lr * gradient)  # not Keras's SGD, which always rounds lr to float32
            gradients = [mode.keep * G for G in gradients] if mode.keep else zeros  # 0 × infinity is NaN
            cursor.update += 1
        cursor.step += 1
        yield row
    _copy_back(variables)


def start(threads: int = 1) -> Any:
    """Return the module `tensorflow`, set to the CPU and this number of threads: results may depend on it.

    Raises:
        GradlabError: TensorFlow is not installed, cannot be imported, or already runs with other settings.
    """
    if importlib.util.find_spec("tensorflow") is None:  # without the slow import
        raise GradlabError(f"{_ENGINE} needs TensorFlow, which is not installed\npip install 'gradlab[tensorflow]'")
    # TensorFlow reads both variables at its first import.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # no log lines on stderr
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # sums in the same order in every run
    try:
        import tensorflow as tf
    except ImportError as error:
        raise GradlabError(f"TensorFlow is installed but cannot be imported: {shortened(error, 200)}") from None
    try:
        tf.config.set_visible_devices([], "GPU")
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:  # raised only if the settings would change
        wanted = counted(threads, "thread")
        raise ExperimentError(
            f"TensorFlow already runs with other settings than CPU and {wanted}; train in a separate process"
        ) from None
    return tf


def _tensor(value: torch.Tensor) -> Any:
    import tensorflow as tf

    return tf.convert_to_tensor(value.detach().cpu().numpy())


# Compare the converted loss with torch's


def _torch_loss(task: Task, batch: Any) -> torch.Tensor:
    """Return the batch's loss as the task computes it in torch; `.grad` does not change."""
    import torch

    with torch.no_grad():
        loss = task.loss(task.model, batch)
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        raise TaskError(f"{_ENGINE} needs a scalar loss, as Task.supervised makes it, got {kind_of(loss)}")
    return loss


def _check_same(loss: float, expected: torch.Tensor) -> None:
    """Raise TaskError if the converted loss differs from torch's by more than rounding.

    The relative tolerance is √eps of the loss's type, because long sums round in another order. The absolute tolerance
    is 100·eps: a smaller loss is all rounding.
    """
    import torch

    wanted, precision = expected.item(), torch.finfo(expected.dtype).eps
    if math.isclose(loss, wanted, rel_tol=precision**0.5, abs_tol=100 * precision):
        return
    if not (math.isnan(loss) and math.isnan(wanted)):
        raise TaskError(
            f"{_ENGINE} cannot convert the loss: on the first batch it is {loss:.6g}, but {wanted:.6g} in torch\n"
            "the loss must be criterion(model(inputs), targets), as Task.supervised makes it"
        )


# Models


def _model(task: Task) -> tuple[Apply, Variables]:
    """Return the model as a TensorFlow function, and the variables with its weights."""
    variables: Variables = {}
    apply = _layer(task.model, variables)
    for name, parameter in task.model.named_parameters():
        if parameter not in variables:  # for example with torch.nn.utils.weight_norm
            raise TaskError(
                f"{_ENGINE} cannot convert the model's parameter '{name}': it is no weight or bias of a Linear layer"
            )
    return apply, variables


# Where a module stores its hooks.
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _layer(module: nn.Module, variables: Variables, place: str = "") -> Apply:
    """Convert a layer, or the layers of a Sequential; `place` is its position in the model, such as "0.2"."""
    from torch import nn

    where = f"layer {place} of the model" if place else "model"
    _check_hooks(module, where)
    if type(module) is nn.Sequential:
        layers = [_layer(each, variables, f"{place}.{nth}".lstrip(".")) for nth, each in enumerate(module)]
        return lambda x: reduce(lambda between, layer: layer(between), layers, x)
    known = _layers()
    if type(module) not in known:  # a subclass may compute something else
        supported = _names([*known, nn.Sequential])
        raise TaskError(f"{_ENGINE} cannot convert the {where}, a {type(module).__name__}; it supports {supported}")
    return known[type(module)](module, variables)


def _check_hooks(module: nn.Module, where: str) -> None:
    """Raise TaskError if the module has hooks or a replaced forward."""
    of_parameters = [parameter for parameter in module.parameters(recurse=False) if parameter._backward_hooks]  # noqa: SLF001 - torch has no public list of hooks
    if "forward" in vars(module) or of_parameters or any(getattr(module, name, None) for name in _HOOKS):
        raise TaskError(f"{_ENGINE} cannot convert the {where}: it has a hook; remove it or use engine 'loop'")


def _layers() -> dict[type, Callable[[Any, Variables], Apply]]:
    import tensorflow as tf
    from torch import nn

    return {
        nn.Linear: _linear,
        nn.ReLU: lambda *_: tf.nn.relu,
        nn.Tanh: lambda *_: tf.tanh,
        nn.Sigmoid: lambda *_: tf.sigmoid,
        nn.Flatten: _flatten,
    }


def _linear(module: nn.Linear, variables: Variables) -> Apply:
    """Return x ↦ x·Wᵀ + b, for x of shape (…, inputs) and W of shape (outputs, inputs), as in torch."""
    import tensorflow as tf

    bias = cast("torch.Tensor | None", module.bias)
    for parameter in (module.weight, bias):
        if parameter is not None and parameter not in variables:  # shared weights become one variable
            variables[parameter] = tf.Variable(_tensor(parameter))
    w = variables[module.weight]
    b = 0 if bias is None else variables[bias]
    return lambda x: (tf.matmul(x, w, transpose_b=True) if len(x.shape) > 1 else tf.linalg.matvec(w, x)) + b


def _flatten(module: nn.Flatten, _: Variables) -> Apply:
    import tensorflow as tf

    def flatten(x: Any) -> Any:
        start, end = module.start_dim % len(x.shape), module.end_dim % len(x.shape)
        return tf.reshape(x, [*x.shape[:start], -1, *x.shape[end + 1 :]])

    return flatten


def _copy_back(variables: Variables) -> None:
    import torch

    with torch.no_grad():
        for parameter, variable in variables.items():
            parameter.copy_(torch.tensor(variable.numpy()))


# Losses


def _criterion(task: Task) -> Loss:
    import tensorflow as tf
    from torch import nn

    if task.criterion is None:
        raise TaskError(
            f"{_ENGINE} cannot convert your own loss; make the task with Task.supervised(model, batches, criterion)\n"
            "or train it with engine 'loop'"
        )
    known: dict[type, Loss] = {
        nn.MSELoss: lambda outputs, targets: tf.reduce_mean(tf.square(_difference(outputs, targets))),
        nn.L1Loss: lambda outputs, targets: tf.reduce_mean(tf.abs(_difference(outputs, targets))),
        nn.CrossEntropyLoss: _cross_entropy,
    }
    kind: type = type(task.criterion)
    supported = f"it supports {_names(known)}"
    if kind not in known:
        name = getattr(task.criterion, "__name__", kind.__name__)
        raise TaskError(f"{_ENGINE} cannot convert the criterion {shortened(name)}; {supported}")
    usual = kind()
    for option in ("reduction", "weight", "ignore_index", "label_smoothing"):
        given = getattr(task.criterion, option, None)
        if given is not getattr(usual, option, None) and given != getattr(usual, option, None):
            raise TaskError(
                f"{_ENGINE} cannot convert {kind.__name__} with {option}={given}; {supported}, without options"
            )
    return known[kind]


def _difference(outputs: Any, targets: Any) -> Any:
    if outputs.dtype != targets.dtype:
        raise TaskError(
            f"{_ENGINE} needs outputs and targets of one type for MSELoss and L1Loss, "
            f"got {outputs.dtype.name} and {targets.dtype.name}"
        )
    return outputs - targets


def _cross_entropy(outputs: Any, targets: Any) -> Any:
    import tensorflow as tf

    if not targets.dtype.is_integer or (len(outputs.shape), len(targets.shape)) != (2, 1):
        raise TaskError(
            f"{_ENGINE} needs outputs (n, classes) and class numbers (n,) for CrossEntropyLoss, "
            f"got {tuple(outputs.shape)} and {targets.dtype.name} {tuple(targets.shape)}"
        )
    if len(targets) and not 0 <= int(tf.reduce_min(targets)) <= int(tf.reduce_max(targets)) < outputs.shape[1]:
        raise TaskError(
            f"{_ENGINE} needs class numbers from 0 to {outputs.shape[1] - 1} for CrossEntropyLoss, "
            f"got {int(tf.reduce_min(targets))} to {int(tf.reduce_max(targets))}; remove rows with other numbers"
        )
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=targets, logits=outputs))


def _names(kinds: Iterable[type]) -> str:
    return ", ".join(kind.__name__ for kind in kinds)
