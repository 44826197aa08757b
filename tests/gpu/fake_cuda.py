"""A CUDA device that is not there: its tensors have shapes and devices and no data, the host's are real.

`FakeTensorMode` makes every tensor fake; a program that reads its own host arithmetic, as sizes drawn on the host,
could not run. Here tensors of the device are fake and those of the host are not. An operation that mixes devices
raises, and so does, where it is forbidden, a copy that the host waits for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from lightgen.model.diffusion import _made_tables

DEVICE = "cuda:0"  # without a number torch would ask the driver which one is meant
aten = torch.ops.aten
_COPIES = (aten._to_copy.default, aten.copy_.default)
_INDEXED = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)
_COMPOSED = "CompositeImplicitAutograd"
_RealGenerator = torch.Generator


class HostRead(RuntimeError):
    """The host waited for the device where it must not."""


class Generator(_RealGenerator):
    """A generator of the host that says it is the device's."""

    def __new__(cls, device: Any = "cpu") -> Generator:
        self = super().__new__(cls, device="cpu")
        self.named = torch.device(device)
        return self

    @property
    def device(self) -> torch.device:
        return self.named


class FakeCuda(TorchDispatchMode):
    """Runs the device's operations on fake tensors. A permitted read gives zeros, or the number that was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.fake, self.may_wait = FakeTensorMode(allow_non_fake_inputs=True), True
        self.waits: list[str] = []  # what the host waited for

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        target = kwargs.get("device")
        on_device = [tensor for tensor in tensors if isinstance(tensor, FakeTensor)]
        if not on_device and (target is None or torch.device(target).type != "cuda"):
            return func(*args, **kwargs)
        is_aten = func.namespace == "aten"
        if is_aten and torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), _COMPOSED):
            with self:  # in inference mode operations come whole
                return func.decompose(*args, **kwargs)
        if func in _COPIES:
            return self._copy(func, args, kwargs)
        if func is aten._local_scalar_dense.default:
            self._wait("a number is read")
            return getattr(args[0], "sent", torch.zeros((), dtype=args[0].dtype)).item()
        if func in (aten.nonzero.default, aten.masked_select.default):
            self._wait(f"{func} needs a size that the device knows")
        self._check_index(func, args)
        _check_devices(func, tensors)
        with self.fake:
            return func(*args, **kwargs)

    def _copy(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """A conversion or a copy between host and device."""
        source = args[0] if func is aten._to_copy.default else args[1]
        target = torch.device(kwargs.get("device") or args[0].device)
        waits = not kwargs.get("non_blocking", args[2] if len(args) > 2 else False)
        if isinstance(source, FakeTensor) and target.type == "cpu":
            self._wait("a tensor is read")  # without blocking too: its values are needed, or it need not be read
            found = torch.zeros(source.shape, dtype=kwargs.get("dtype") or source.dtype)
            return args[0].copy_(found) if func is aten.copy_.default else getattr(source, "sent", found)
        if not isinstance(source, FakeTensor) and waits and source.numel() > 1:
            self._wait("a tensor is sent and waited for")
        with self.fake:
            found = func(*args, **kwargs)
        if not isinstance(source, FakeTensor) and source.numel() <= 64:
            found.sent = source.clone()
        return found

    def _wait(self, why: str) -> None:
        self.waits.append(why)
        if not self.may_wait:
            raise HostRead(f"the host waits for the device: {why}")

    def _check_index(self, func: Any, args: Any) -> None:
        if func in _INDEXED:
            index = [leaf for leaf in tree_leaves(args[1]) if isinstance(leaf, torch.Tensor)]
            if not isinstance(args[0], FakeTensor):
                raise RuntimeError(f"{func}: a tensor of the host is indexed by one of the device")
            if any(not isinstance(part, FakeTensor) for part in index):
                self._wait("an index of the host is sent and waited for")
            if any(part.dtype is torch.bool for part in index):
                self._wait("a mask as an index needs a size that the device knows")

    @contextmanager
    def no_waiting(self) -> Iterator[None]:
        """Within the block the host must not wait for the device."""
        self.may_wait = False
        try:
            yield
        finally:
            self.may_wait = True


def _check_devices(func: Any, tensors: list[torch.Tensor]) -> None:
    """Numbers of the host may stand beside tensors of the device; tensors may not."""
    of_host = [t for t in tensors if not isinstance(t, FakeTensor) and t.ndim > 0]
    if of_host and any(isinstance(t, FakeTensor) for t in tensors) and func not in _INDEXED:
        raise RuntimeError(f"{func} mixes devices: {', '.join(str(t.device) for t in tensors)}")


def _drawn(function: Any) -> Any:
    """A function that draws, which refuses a generator of another device; the fake device's need none."""

    def draw(*args: Any, **kwargs: Any) -> Any:
        generator, target = kwargs.get("generator"), torch.device(kwargs.get("device") or "cpu")
        if generator is not None and generator.device.type != target.type:
            raise RuntimeError(f"expected a generator of {target}, found one of {generator.device}")
        return function(*args, **{**kwargs, "generator": None if target.type != "cpu" else generator})

    return draw


def _made(function: Any) -> Any:
    """A function that makes a tensor of numbers: made on the host, then sent."""

    def make(data: Any, *args: Any, **kwargs: Any) -> Any:
        target = kwargs.pop("device", None)
        if isinstance(data, torch.Tensor) or target is None or torch.device(target).type == "cpu":
            return function(data, *args, **kwargs, device=target)
        return function(data, *args, **kwargs).to(target)

    return make


def _indexed(tensor: torch.Tensor, index: Any) -> torch.Tensor:
    """Indexing; a list is made a tensor and sent."""
    sent = torch.tensor(index).to(tensor.device) if isinstance(index, list) else index
    return torch.Tensor.__getitem__(tensor, sent)


def _copied(function: Any) -> Any:
    """A deep copy that does not ask a fake tensor for its address."""

    def copy(tensor: torch.Tensor, memo: dict[int, Any]) -> torch.Tensor:
        if not isinstance(tensor, FakeTensor):
            return function(tensor, memo)
        if id(tensor) not in memo:
            found = tensor.detach().clone()
            is_parameter = isinstance(tensor, nn.Parameter)
            memo[id(tensor)] = nn.Parameter(found, requires_grad=tensor.requires_grad) if is_parameter else found
        return memo[id(tensor)]

    return copy


def _apply(module: nn.Module, function: Any, recurse: bool = True) -> nn.Module:
    """`Module._apply` with new parameters: those of fake tensors cannot be swapped. Tied ones stay tied."""
    moved: dict[int, Any] = {}
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None and id(value) not in moved:
                moved[id(value)] = nn.Parameter(function(value.detach()), requires_grad=value.requires_grad)
            part._parameters[name] = None if value is None else moved[id(value)]
        for name, value in part._buffers.items():
            part._buffers[name] = None if value is None else function(value)
    return module


def backward(loss: torch.Tensor) -> None:
    """A gradient for every parameter that the loss depends on. Without a device autograd's engine refuses to run for
    one; what the backward pass reads is tested on the host."""
    seen, todo = set(), [loss.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            node.variable.grad = torch.zeros_like(node.variable)
        todo += [next_node for next_node, _ in node.next_functions]


class FakeAccelerator:
    """What a run needs of an Accelerator, for one process on the fake device."""

    num_processes, process_index, is_main_process = 1, 0, True

    def __init__(self, precision: str = "fp32"):
        self.device, self.precision = torch.device(DEVICE), precision

    def autocast(self) -> Any:
        return torch.autocast("cuda", torch.bfloat16, enabled=self.precision == "bf16")

    def backward(self, loss: torch.Tensor) -> None:
        backward(loss)

    def prepare_model(self, model: nn.Module) -> Any:
        def forward(*args: Any, **kwargs: Any) -> Any:
            with self.autocast():
                return model(*args, **kwargs)

        return forward

    def wait_for_everyone(self) -> None:
        pass


@contextmanager
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    """Within the block `cuda` is a device whose tensors are fake."""
    device = torch.device(DEVICE)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "Generator", Generator)
        for name in ("rand", "randn", "randint", "randperm"):
            patch.setattr(torch, name, _drawn(getattr(torch, name)))
        for name in ("tensor", "as_tensor"):
            patch.setattr(torch, name, _made(getattr(torch, name)))
        patch.setattr(torch.Tensor, "__deepcopy__", _copied(torch.Tensor.__deepcopy__))
        patch.setattr(torch.Tensor, "backward", lambda loss, *_, **__: backward(loss))
        patch.setattr(nn.Module, "_apply", _apply)
        if torch.cuda.is_available():
            torch.cuda.init()  # it is done once: a real device, where there is one, must not miss it
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        patch.setattr(FakeTensor, "__getitem__", _indexed)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch.Tensor, "new_tensor", lambda like, data: torch.tensor(data, device=like.device))
        patch.setattr(torch.accelerator, "is_available", lambda: True)
        patch.setattr(torch.accelerator, "current_accelerator", lambda *_, **__: device)
        patch.setattr(torch.accelerator, "device_count", lambda: 1)
        # The choice among the fused kernels asks the device what it is.
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), FakeCuda() as mode:
            _made_tables.cache_clear()
            try:
                yield mode
            finally:
                _made_tables.cache_clear()


def to_device(value: Any) -> Any:
    """Tensors, in any structure, on the fake device."""
    return tree_map_only(torch.Tensor, lambda tensor: tensor.to(DEVICE), value)
