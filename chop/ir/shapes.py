"""Shapes at capture: tensors of a traced forward pass know their sizes, the batch's excepted."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import fx, nn

from chop.ir.modes import evaluating

__all__ = ["PartsProxy", "ShapeProxy", "Shapes", "SizeTuple"]

# Unlike most sizes in a network, so that a dimension that is the batch shows.
_BATCH = 3


class SizeTuple(tuple[Any, ...]):
    """The size of a tensor: numbers, and in the first place a proxy for the batch."""

    def numel(self) -> Any:
        product: Any = 1
        for size in self:
            product = product * size
        return product


class ShapeProxy(fx.Proxy):
    """A traced tensor of which `shape`, `size`, `dim` and `ndim` are known where possible.

    So `if x.dim() == 3`, `for n in x.shape[1:]` and `x.view(*x.shape[:2], -1)` can be traced. The
    size of the batch remains a node: the captured network takes batches of any size.
    """

    @property
    def _shapes(self) -> Shapes:
        shapes: Shapes = self.tracer.shapes  # type: ignore[attr-defined]
        return shapes

    @property
    def shape(self) -> Any:
        known = self._shapes.size(self)
        return fx.proxy.Attribute(self, "shape") if known is None else known

    @property
    def ndim(self) -> Any:
        value = self._shapes.tensor(self.node)
        return fx.proxy.Attribute(self, "ndim") if value is None else value.dim()

    @property
    def is_cuda(self) -> Any:
        value = self._shapes.tensor(self.node)
        return fx.proxy.Attribute(self, "is_cuda") if value is None else value.is_cuda

    def dim(self) -> Any:
        value = self._shapes.tensor(self.node)
        return self._call("dim") if value is None else value.dim()

    def size(self, dim: Any = None) -> Any:
        known = self._shapes.size(self)
        if known is None or not (dim is None or isinstance(dim, int)):
            return self._call("size") if dim is None else self._call("size", dim)
        return known if dim is None else known[dim]

    def _call(self, method: str, *arguments: Any) -> Any:
        return self.tracer.create_proxy("call_method", method, (self, *arguments), {})


def _changing(name: str) -> Callable[[ShapeProxy, Any], Any]:
    """Returns the method of x += y and its like: torch.fx would take it for x = x + y.

    Numbers are not changed in place.
    """
    pure, changing = getattr(operator, name), getattr(operator, f"i{name}")

    def method(self: ShapeProxy, other: Any) -> Any:
        if self._shapes.is_number(self.node):
            return pure(self, other)
        return self.tracer.create_proxy("call_function", changing, (self, other), {}, name=name)

    return method


for _name in ("add", "sub", "mul", "truediv", "pow", "floordiv", "mod"):
    setattr(ShapeProxy, f"__i{_name}__", _changing(_name))


class PartsProxy(ShapeProxy):
    """What a call gives that cuts a tensor into several, whose number is known."""

    def __iter__(self) -> Iterator[Any]:
        return iter([self[i] for i in range(len(self))])

    def __len__(self) -> int:
        return len(self._shapes.value(self.node))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        return super().__getitem__(index)  # type: ignore[misc]


class Shapes:
    """The values of a traced network's nodes for some samples: what is known of their sizes.

    A node that cannot be computed has none, and neither have those that read it: their sizes stay
    nodes of the graph.
    """

    def __init__(self, root: nn.Module, examples: Sequence[torch.Tensor]) -> None:
        self._root = root
        self._examples = [torch.cat([x[:1]] * _BATCH) for x in examples if x.dim() and len(x)]
        self._known: dict[fx.Node, Any] = {}
        self._dependent: set[fx.Node] = set()
        self._batch: Any = None
        # While a value is computed: then modules and parameters are themselves, and not traced.
        self.computing = False

    def learn(self, proxy: fx.Proxy) -> None:
        """Computes the value of a new node, which is `proxy`'s."""
        node = proxy.node
        if node.op == "placeholder":
            number = sum(n.op == "placeholder" for n in self._known)
            if number < len(self._examples):
                self._known[node] = self._examples[number].clone()
                self._dependent.add(node)
            return
        if not set(node.all_input_nodes) <= self._known.keys():
            return
        self.computing = True
        try:
            with torch.no_grad():
                self._known[node] = self._compute(node)
        except Exception:
            # Anything may come out of a foreign call. It comes again, with its place in the
            # source, where the graph is run.
            return
        finally:
            self.computing = False
        if any(n in self._dependent for n in node.all_input_nodes):
            self._dependent.add(node)
        if type(self._known[node]) in (tuple, list):
            proxy.__class__ = PartsProxy

    def tensor(self, node: fx.Node) -> torch.Tensor | None:
        """Returns the value of a node if that is known and a tensor."""
        value = self._known.get(node)
        return value if isinstance(value, torch.Tensor) else None

    def is_number(self, node: fx.Node) -> bool:
        """Returns whether a node is a size, or computed from sizes only."""
        if node in self._known:
            return isinstance(self._known[node], int | float)
        if node.op == "call_method" and node.target in ("size", "dim", "numel", "stride"):
            return True
        if node.target is getattr and node.args[1] in ("shape", "ndim"):
            return True
        inputs = node.all_input_nodes
        return bool(inputs) and all(self.is_number(n) for n in inputs)

    def value(self, node: fx.Node) -> Any:
        """Returns the value of a node, None where it is not known."""
        return self._known.get(node)

    def size(self, proxy: fx.Proxy) -> SizeTuple | None:
        """Returns the size of a traced tensor if it is known."""
        value = self.tensor(proxy.node)
        if value is None:
            return None
        if proxy.node not in self._dependent or value.dim() == 0:
            return SizeTuple(value.shape)
        first: Any = self._batch
        if len(value) != _BATCH or first is None:
            first = proxy.tracer.create_proxy("call_method", "size", (proxy, 0), {})
        if len(value) == _BATCH:
            # One proxy for all, so that sizes can be compared.
            self._batch = first
        return SizeTuple((first, *value.shape[1:]))

    def _compute(self, node: fx.Node) -> Any:
        args = fx.node.map_arg(node.args, self._known.__getitem__)
        kwargs = fx.node.map_arg(node.kwargs, self._known.__getitem__)
        match node.op, node.target:
            case "get_attr", str(target):
                owner, _, name = target.rpartition(".")
                value = getattr(self._root.get_submodule(owner), name)
                return value.detach().clone() if isinstance(value, torch.Tensor) else value
            case "call_module", str(target):
                module = self._root.get_submodule(target)
                with evaluating(module):
                    return module(*args, **kwargs)
            case "call_method", str(target):
                first, *rest = args
                return getattr(first, target)(*rest, **kwargs)
            case "call_function", target:
                return target(*args, **kwargs)  # type: ignore[operator]
        raise ValueError(node.op)
