"""What a trace of the forward pass cannot see, or a sample does not have, is refused."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest
import torch
from torch import nn

import chop
from chop.errors import CaptureError, UnsupportedOpError


class Drawn(nn.Module):
    """Its noise is drawn once, while it is traced."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn(6)


class Typed(nn.Module):
    """What is traced is no tensor."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if isinstance(x, torch.Tensor) else x * 2


class PerBatch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x.shape[0]


class CutToBatch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, : x.size(0) - 1]


class Repeated(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.repeat(2, 1)


def _line(model: type[nn.Module], text: str) -> int:
    lines, first = inspect.getsourcelines(model)
    return first + next(i for i, line in enumerate(lines) if text in line)


@pytest.mark.parametrize("model", [Drawn(), Typed()])
@pytest.mark.parametrize("samples", [1, 3, 16])
def test_what_a_trace_cannot_see_is_refused(model: nn.Module, samples: int) -> None:
    with pytest.raises(CaptureError) as caught:
        chop.compile(model, torch.randn(samples, 6))
    name = type(model).__name__
    assert str(caught.value) == (
        f"model '{name}': its graph gives result 0 other values than the model in evaluation; its "
        "forward pass must not draw random numbers, use the size of the batch as a number, or "
        "branch on a tensor's type or on the mode (call model.eval() before the compilation)"
    )


@pytest.mark.parametrize(
    ("model", "text", "reason"),
    [
        (PerBatch(), "x.shape", "what 'mul' gives depends on the size of the batch"),
        (CutToBatch(), "x.size", "what 'getitem' gives depends on the size of the batch"),
        (Repeated(), "x.repeat", "'repeat' makes another number of samples"),
    ],
)
@pytest.mark.parametrize("samples", [1, 3, 16])
def test_the_size_of_the_batch_is_no_number(
    model: nn.Module, text: str, reason: str, samples: int
) -> None:
    with pytest.raises(UnsupportedOpError) as caught:
        chop.compile(model, torch.randn(samples, 6))
    place = f"(test_captured.py:{_line(type(model), text)}): {reason}; "
    assert place in str(caught.value)


class Forward(nn.Module):
    """A linear layer, and what a function makes of its result and the input."""

    def __init__(self, function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.fc, self.function = nn.Linear(6, 6), function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.fc(x), x)


@pytest.mark.parametrize(
    ("function", "remedy"),
    [
        (lambda y, x: torch.maximum(y, torch.zeros(6)), "use clamp with a number as its bound"),
        (lambda y, x: x / y, "multiply by the reciprocal: a * torch.reciprocal(b)"),
        (lambda y, x: y * (x > 0), "in place of a condition"),
        (lambda y, x: y + torch.zeros(x.size(0), 6), "as torch.zeros(1, n): it is repeated"),
        (lambda y, x: y + torch.zeros_like(x), "as torch.zeros(1, n): it is repeated"),
        (lambda y, x: y.double(), "number formats are the configuration's"),
    ],
)
def test_the_remedy_is_what_one_would_write(
    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], remedy: str
) -> None:
    with pytest.raises((CaptureError, UnsupportedOpError)) as caught:
        chop.compile(Forward(function), torch.randn(4, 6))
    assert remedy in str(caught.value)
    assert "test_captured.py:" in str(caught.value)
