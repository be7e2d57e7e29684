"""A stand-in for a GPU without float64, as Apple's are: tensors on a device of its own, whose numbers the CPU computes.

No tensor on it is in float64, and no operation takes tensors of the device together with tensors of the host, numbers
and copies excepted. They call themselves ``meta``, since torch must know the device: ``mps`` exists on a Mac alone.
What this cannot show: which operations torch has on a Mac, their rounding, and their speed.
"""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")
COPIES = {torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default}
MIXED, FLOAT64 = "tensors of the device and of the host: ", "the device has no float64: "


class OnDevice(torch.Tensor):
    """A tensor on the device; its numbers are those of ``inner``, on the host."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "OnDevice":
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset()}
        tensor = torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, device=DEVICE, **layout)
        tensor.inner = inner
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


class WithoutFloat64(TorchDispatchMode):
    """While it is entered the device exists; without ``values`` its tensors are torch's own of meta."""

    def __init__(self, values: bool = True) -> None:
        super().__init__()
        self.values = values

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.values:
            return computed(func, args, kwargs or {})
        outcome = func(*args, **(kwargs or {}))
        for value in tree_flatten(outcome)[0]:
            if isinstance(value, torch.Tensor) and value.device == DEVICE and value.dtype == torch.float64:
                raise TypeError(f"{FLOAT64}{func}")
        return outcome


def computed(func: Any, args: Any, kwargs: Any) -> Any:
    """The outcome of an operation: on the device where it takes tensors of it, or is asked to make one there."""
    leaves = tree_flatten((args, kwargs))[0]
    here = [leaf for leaf in leaves if isinstance(leaf, OnDevice)]
    host = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and not isinstance(leaf, OnDevice) and leaf.dim()]
    if here and host and func not in COPIES:
        raise RuntimeError(f"{MIXED}{func}")
    to = kwargs.get("device")
    kwargs = kwargs if to is None else {**kwargs, "device": torch.device("cpu")}
    args, kwargs = tree_map(lambda leaf: leaf.inner if isinstance(leaf, OnDevice) else leaf, (args, kwargs))
    outcome = func(*args, **kwargs)
    on_device = (here and leaves[0] is here[0]) if func is torch.ops.aten.copy_.default else here
    on_device = on_device if to is None else to == DEVICE
    return tree_map(lambda value: placed(value, here, func) if on_device else value, outcome)


def placed(value: Any, here: list[OnDevice], func: Any) -> Any:
    """An outcome on the device; that of an operation in place is the tensor that it changed."""
    if not isinstance(value, torch.Tensor):
        return value
    if value.dtype == torch.float64:
        raise TypeError(f"{FLOAT64}{func}")
    same = [tensor for tensor in here if tensor.inner is value]
    return same[0] if same else OnDevice(value)
