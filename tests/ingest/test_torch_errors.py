"""What a module gets that cannot become a graph: one four-part error that names all of it, and nothing changed."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from subbyte.errors import IngestError
from subbyte.ingest.torch_export import trace

IMAGE = (2, 3, 8, 8)


class Lambda(nn.Module):
    def __init__(self, function, **constants):
        super().__init__()
        self.function = function
        for name, tensor in constants.items():
            self.register_buffer(name, tensor)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def refused(module, *inputs):
    with pytest.raises(IngestError) as caught:
        trace(module, inputs)
    error = caught.value
    assert all([error.seen, error.rule, error.remedy, error.place])
    return error


def test_all_unsupported_operators_are_listed_with_their_modules():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Mish())
            self.norm = nn.GroupNorm(2, 4)

        def forward(self, x):
            x = self.norm(self.stem(x))
            return torch.cumsum(x, 2)

    error = refused(Net(), torch.randn(IMAGE))
    assert "3 operator calls of Net" in error.seen
    assert "aten.mish.default in module 'stem.1' (line" in error.seen
    assert "x = self.norm(self.stem(x))" in error.seen
    assert "aten.group_norm.default in module 'norm'" in error.seen
    assert "aten.cumsum.default in the model's own forward (line" in error.seen
    assert "return torch.cumsum(x, 2)" in error.seen
    assert "norm, stem.1" in error.place
    assert "conv2d" in error.rule


def test_what_follows_an_unsupported_operator_is_not_blamed():
    net = nn.Sequential(nn.Softplus(), nn.Linear(8, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert "1 operator call of" in refused(net, torch.randn(IMAGE)).seen


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda m, x: functional.dropout(x), "active in evaluation"),
        (lambda m, x: functional.pad(x, (1, 1, 1, 1), "reflect"), "'reflect'"),
        (lambda m, x: functional.pad(x, (-1, 1)), "negative"),
        (lambda m, x: functional.adaptive_avg_pool2d(x, 3), "windows differ"),
        (lambda m, x: functional.avg_pool2d(x, 2, divisor_override=3), "divisor_override"),
        (lambda m, x: functional.max_pool2d(x, 2, return_indices=True)[1].float(), "first result"),
        (lambda m, x: functional.interpolate(x, scale_factor=1.7), "unevenly"),
        (lambda m, x: functional.interpolate(x, scale_factor=2, mode="bilinear"), "bilinear"),
        (lambda m, x: x.mean() + x, "the batch among them"),
        (lambda m, x: x.softmax(0), "batch axis"),
        (lambda m, x: x.transpose(0, 1), "batch"),
        (lambda m, x: x[:1], "part of the batch"),
        (lambda m, x: x.reshape(-1, 8), "batch"),
        (lambda m, x: x @ x.transpose(2, 3), "only constants"),
        (lambda m, x: m.w @ x, "constant"),
        (lambda m, x: x / x.exp(), "divides"),
        (lambda m, x: x.long().float(), "real"),
        (lambda m, x: x + torch.rand(8), "random"),
        (lambda m, x: torch.cat([x, x.new_zeros(x.size(0), 1, 8, 8)], 1), "new_zeros"),
        (lambda m, x: x + m.b, "batch axis of its own"),
        (lambda m, x: functional.batch_norm(x, None, None, training=True), "statistics of the batch"),
        (lambda m, x: x.argmax(), "give it dim"),
    ],
)
def test_reason(function, words):
    module = Lambda(function, w=torch.ones(8, 8), b=torch.ones(2, 3, 8, 8))
    assert words in refused(module, torch.randn(IMAGE)).seen


def test_view_read_after_its_tensor_changed_in_place():
    def forward(m, x):
        y = x + 1
        view = y[:, 0]
        y.relu_()
        return y.mean(1) + view

    assert "in place" in refused(Lambda(forward), torch.randn(IMAGE)).seen


def test_branch_on_data():
    error = refused(Lambda(lambda m, x: x if x.sum() > 0 else -x), torch.randn(IMAGE))
    assert "branches on the values" in error.seen
    assert "test_torch_errors.py" in error.place


def test_module_that_fails_by_itself():
    error = refused(nn.Linear(5, 3), torch.randn(2, 4))
    assert "fails on the example inputs" in error.seen


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite(bad):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1))
    with torch.no_grad():
        net[1].weight[1, 2, 0, 0] = bad
    error = refused(net, torch.randn(IMAGE))
    assert "1.weight" in error.seen
    assert "[1, 2, 0, 0]" in error.seen


def test_division_by_a_constant_with_a_zero():
    error = refused(Lambda(lambda m, x: x / m.c, c=torch.tensor([1.0, 0.0] * 4)), torch.randn(IMAGE))
    assert "finite" in error.rule


@pytest.mark.parametrize(
    "inputs", [(torch.tensor(1.0),), (torch.zeros(0, 3),), (torch.zeros(2, 3), torch.zeros(3, 3)), ()]
)
def test_examples_without_a_batch(inputs):
    refused(Lambda(lambda m, *x: x[0] * 2 if x else None), *inputs)


def test_token_inputs():
    error = refused(nn.Embedding(10, 4), torch.zeros(2, 5, dtype=torch.int64))
    assert "int64" in error.seen


def test_state_that_changes():
    def forward(m, x):
        m.count.add_(1)
        return x * m.count

    assert "changes 'count'" in refused(Lambda(forward, count=torch.ones(8)), torch.randn(IMAGE)).seen


def test_constant_output():
    refused(Lambda(lambda m, x: (x, m.c + 1), c=torch.ones(3)), torch.randn(IMAGE))


def test_no_module():
    with pytest.raises(IngestError, match=r"torch\.nn\.Module"):
        trace(lambda x: x, torch.zeros(2, 3))


def test_caller_keeps_its_module_as_it_was(capfd):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout())
    net.train()
    net[1].eval()  # a frozen batch norm in a module that trains
    before = copy.deepcopy(net.state_dict())
    x = torch.randn(IMAGE)
    kept = x.clone()
    graph = trace(net, x)
    assert [m.training for m in net.modules()] == [True, True, False, True, True]
    assert torch.equal(x, kept)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert all(p.requires_grad for p in net.parameters())
    weight = graph.constants["0.weight"].copy()
    with torch.no_grad():
        net[0].weight.zero_()
    np.testing.assert_array_equal(graph.constants["0.weight"], weight)
    with pytest.raises(IngestError):
        trace(Lambda(lambda m, x: x if x.sum() > 0 else -x), x)
    assert capfd.readouterr() == ("", "")


def test_batch_is_a_symbol_where_the_module_allows_it(monkeypatch):
    calls = []
    export = torch.export.export

    def counted(*args, **kwargs):
        calls.append(kwargs)
        return export(*args, **kwargs)

    monkeypatch.setattr(torch.export, "export", counted)
    trace(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), torch.randn(1, 3, 8, 8))
    assert len(calls) == 1
    assert calls[0]["dynamic_shapes"]
