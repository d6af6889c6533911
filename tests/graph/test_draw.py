"""The table of a network: what it shows, and that no name in it can reach the terminal unescaped."""

from __future__ import annotations

from subbyte.graph.draw import draw
from subbyte.graph.ir import Node
from subbyte.graph.passes import prepare
from tests.graph.networks import LEAKY, RELU6, Net
from tests.graph.test_verify import integers


def table() -> list[list[str]]:
    net = Net()
    x = net.relu(net.conv(net.input("image", 3, 8, 8), 4, stride=(2, 2), bias=True, name="stem"), RELU6)
    y = net.linear(net.reshape(net.max_pool(x), 4), 2, name="head")
    lines = draw(prepare(net.graph(y))).splitlines()
    return [line.split() for line in lines]


def test_a_line_per_node_with_operator_shape_and_params() -> None:
    rows = {row[0]: row for row in table()}
    assert rows["node"] == ["node", "operator", "reads", "shape", "params", "format"]
    assert rows["image"][-2:] == ["Nx3x8x8", "float32"]
    assert rows["stem"][1:] == ["conv+relu6", "3x3", "/2x2", "stem.layout", "Nx3x3x4", "112", "float32"]
    assert rows["head"][-2:] == ["10", "float32"]
    assert rows["net:"][-4:] == ["122", "params,", "returns", "head"]


def test_many_operands_are_counted() -> None:
    net = Net()
    values = [net.relu(net.input(f"x{i}", 3)) for i in range(6)]
    assert "rectify0, rectify1, rectify2, +3 " in draw(net.graph(net.concat(1, *values)))


def test_columns_are_aligned() -> None:
    net = Net()
    y = net.relu(net.affine(net.input("x", 3)), LEAKY, name="a rather long name of an activation")
    lines = draw(net.graph(y)).splitlines()
    start = lines[0].index("shape")
    assert [line[start] for line in lines[2:-1]] == ["N"] * 3
    assert "leaky 0.1" in lines[-2]


def test_integer_types_show_format_scale_and_zero_point() -> None:
    text = draw(integers())
    assert "uint8 0.5*(q-3)" in text
    assert "uint8 0.25*q" in text
    assert "int_conv 1x1" in text


def test_hostile_names_are_escaped_and_long_ones_shortened() -> None:
    net = Net()
    x = net.relu(net.input("x", 3), name="\x1b[2Jclear\n\u202eevil")
    graph = net.graph(net.relu(x, name="n" * 500))
    hostile = graph.evolve(name="model\x07", nodes=(*graph.nodes[:1], Node(**_fields(graph.nodes[1]))))
    text = draw(hostile)
    assert all(c.isprintable() or c == "\n" for c in text)
    assert len(text.splitlines()) == 6
    assert r"\x1b[2Jclear\n\u202eevil" in text
    assert max(map(len, text.splitlines())) < 300


def _fields(node: Node) -> dict:
    return {"name": node.name, "op": node.op, "inputs": node.inputs, "output": node.output, "module": node.module}
