"""emit_pytorch: one file, torch alone, the reference's integers bit for bit."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chop.errors import ConfigError, UnsupportedOpError
from chop.ops.annotate import run_in_integers
from chop.passes.graph.transforms import emit_pytorch_transform_pass, fake_to_true_transform_pass
from chop.passes.graph.transforms.emit_pytorch import generate_pytorch
from chop.passes.integers import output_nodes, to_integers, to_reals
from tests.ops.test_worlds import run_source
from tests.passes.networks import AUTOMATIC, batch, branches, chain, quantised

# Run beside the generated file by an interpreter without site paths of the caller's environment.
_DRIVER = """
import sys
import torch
sys.path.insert(0, sys.argv[1])
import network
inputs, kinds = torch.load(sys.argv[2])
integers = [network.quantize_input(x, name) for name, x in inputs.items()]
outputs = network.IntegerNetwork()(*integers)
outputs = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
reals = [network.dequantize_output(y, n) for n, y in zip(network.OUTPUTS, outputs, strict=True)]
torch.save((integers, outputs, reals), sys.argv[3])
wrong = [name for name in sys.modules if name.split(".")[0] in kinds]
assert not wrong, wrong
"""


def interpreter(*arguments: object) -> str:
    """Runs Python isolated from the environment; returns what it prints."""
    command = [sys.executable, "-I", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("which", ["fake", "true"])
def test_a_process_without_chop_computes_the_reference(which: str, tmp_path: Path) -> None:
    graph = quantised(branches(), AUTOMATIC)
    inputs = {"x": 3 * batch(200, 4, 4, seed=8), "z": 3 * batch(200, 2, 3, seed=9)}
    reference = run_in_integers(graph, {n: x.double().numpy() for n, x in inputs.items()})
    source = fake_to_true_transform_pass(graph) if which == "true" else graph
    folder = tmp_path / "code"
    result = emit_pytorch_transform_pass(source, {"file": folder / "network.py"})
    assert result.model.code == source.model.code
    assert [path.name for path in folder.iterdir()] == ["network.py"]
    driver, given, made = (tmp_path / name for name in ("driver.py", "given.pt", "made.pt"))
    driver.write_text(_DRIVER, encoding="utf-8")
    torch.save((inputs, ["chop", "passes", "jinja2"]), given)
    interpreter(driver, folder, given, made)
    integers, outputs, reals = torch.load(made)
    for (name, x), mine in zip(inputs.items(), integers, strict=True):
        assert torch.equal(mine, to_integers(graph, name, x))
    for node, y, real in zip(output_nodes(graph), outputs, reals, strict=True):
        assert y.dtype == torch.int64
        assert np.array_equal(y.numpy(), reference[node.name])
        assert torch.equal(real, to_reals(graph, node.name, y))


def test_the_file_describes_itself(tmp_path: Path) -> None:
    file = tmp_path / "network.py"
    emit_pytorch_transform_pass(quantised(chain()), {"file": file})
    assert interpreter(file) == (
        "Chain: 5 integer operators, 43 constants\n"
        "input x: [6] of s8.4, integers -128..127\n"
        "output fc2: [3] of s14.10, integers -6987..6983\n"
    )


def test_only_torch_and_the_standard_library_are_imported() -> None:
    tree = ast.parse(generate_pytorch(quantised(branches(), AUTOMATIC)))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported == {"torch", "base64", "zlib"}


def test_the_text_is_readable_and_the_same_every_time() -> None:
    text = generate_pytorch(quantised(chain()))
    assert text == generate_pytorch(fake_to_true_transform_pass(quantised(chain())))
    assert max(len(line) for line in text.splitlines()) <= 100
    body = text[text.index("    def forward") : text.index("def quantize_input")]
    assert body == (
        "    def forward(self, x: Tensor):\n"
        "        # x_cast: cast, 6 of s8.4, integers in [-128, 127]\n"
        '        x_cast = _checked(x, "x")\n'
        "\n"
        "        # fc1: linear, 4 of s15.10, integers in [-11751, 11964]\n"
        "        fc1 = x_cast.double() @ self.fc1_weight.double().T\n"
        "        fc1 = fc1 + self.fc1_offset.double()\n"
        "        fc1 = fc1.long()\n"
        "\n"
        "        # act: relu, 4 of u14.10, integers in [0, 11964]\n"
        "        act = fc1.clamp(min=0)\n"
        "\n"
        "        # fc2_data_in: cast, 4 of s8.4, integers in [0, 127]\n"
        "        fc2_data_in = (act + 32) >> 6\n"
        "        fc2_data_in = fc2_data_in.clamp(max=127)\n"
        "\n"
        "        # fc2: linear, 3 of s14.10, integers in [-6987, 6983]\n"
        "        fc2 = fc2_data_in.double() @ self.fc2_weight.double().T\n"
        "        fc2 = fc2 + self.fc2_offset.double()\n"
        "        fc2 = fc2.long()\n"
        "\n"
        "        return fc2\n"
        "\n"
        "\n"
    )


def test_the_generated_file_refuses_what_is_not_integers() -> None:
    space: dict[str, Any] = {}
    exec(generate_pytorch(quantised(chain())), space)
    network = space["IntegerNetwork"]()
    for x, message in (
        (torch.full((1, 6), 0.5), "input 'x': must hold whole numbers; use quantize_input"),
        (torch.full((1, 6), 128), "input 'x': integers must be in -128..127"),
    ):
        with pytest.raises(ValueError, match=r"^input 'x'") as caught:
            network(x)
        assert str(caught.value) == message
    with pytest.raises(ValueError, match="input 'x': cannot quantise NaN"):
        space["quantize_input"](torch.full((1, 6), torch.nan))


def test_ties_and_extremes_are_quantised_alike() -> None:
    for rounding in ("half_up", "half_even", "floor"):
        arguments = {"rounding": rounding, "default": {"config": AUTOMATIC}}
        from chop.passes.graph.transforms import quantize_transform_pass

        graph = quantize_transform_pass(chain(), arguments)
        ties = torch.arange(-30000, 30000).double() / 1024
        x = torch.cat([ties, torch.tensor([1e30, -1e30, torch.inf, -torch.inf, 5e-324, -0.0])])
        x = torch.cat([x, torch.nextafter(x, x * 0), torch.nextafter(x, x * 2)])
        x = x[: len(x) // 6 * 6].nan_to_num().reshape(-1, 6)
        _, (_, (integers,)) = run_source(generate_pytorch(graph), {"x": x})
        assert torch.equal(integers, to_integers(graph, "x", x))


def test_a_float_network_is_refused_and_the_file_is_needed() -> None:
    with pytest.raises(UnsupportedOpError, match="run quantize or float_to_fake first"):
        generate_pytorch(chain())
    with pytest.raises(ConfigError) as caught:
        emit_pytorch_transform_pass(quantised(chain()))
    assert str(caught.value) == "pass 'emit_pytorch': 'file' is missing; add it"
