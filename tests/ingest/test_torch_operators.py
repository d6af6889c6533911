"""Every supported aten operator: a small module, traced and run, against the module itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from subbyte.graph.torch_executor import run_float
from subbyte.graph.verify import verify
from subbyte.ingest.torch_export import trace
from tests.limits import FLOAT_REL_ERROR


class Lambda(nn.Module):
    """A function as a module."""

    def __init__(self, function, **constants):
        super().__init__()
        self.function = function
        for name, tensor in constants.items():
            self.register_buffer(name, tensor)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def normed(layer, channels=6):
    """A layer behind a batch norm whose statistics are not the neutral ones."""
    norm = (nn.BatchNorm1d if isinstance(layer, nn.Conv1d) else nn.BatchNorm2d)(channels)
    torch.nn.init.uniform_(norm.running_mean, -1, 1)
    torch.nn.init.uniform_(norm.running_var, 0.5, 2)
    torch.nn.init.uniform_(norm.weight, -1, 1)
    torch.nn.init.uniform_(norm.bias, -1, 1)
    return nn.Sequential(norm, layer)


def first_of_max_pool(module, x):
    return functional.max_pool2d(x, 2, return_indices=True)[0]


def changed_and_read(module, x):
    y = x - 0.1
    return y.relu_() + y * 2


IMAGE, WAVE, ROW = (3, 6, 9, 8), (3, 6, 11), (3, 6)

LAYERS = {
    "conv2d": (lambda: nn.Conv2d(6, 4, 3), IMAGE),
    "conv2d_stride_padding_dilation": (lambda: nn.Conv2d(6, 4, (3, 2), (2, 1), (2, 1), (1, 2)), IMAGE),
    "conv2d_same_even_kernel": (lambda: nn.Conv2d(6, 4, (4, 3), padding="same", dilation=(1, 2)), IMAGE),
    "conv2d_valid": (lambda: nn.Conv2d(6, 4, 3, padding="valid"), IMAGE),
    "conv2d_depthwise": (lambda: normed(nn.Conv2d(6, 12, 3, groups=6, bias=False)), IMAGE),
    "conv2d_groups": (lambda: nn.Conv2d(6, 4, 1, groups=2), IMAGE),
    "conv1d": (lambda: normed(nn.Conv1d(6, 5, 4, stride=2, padding=3)), WAVE),
    "conv1d_same": (lambda: nn.Conv1d(6, 5, 4, padding="same"), WAVE),
    "linear": (lambda: nn.Linear(6, 7), ROW),
    "linear_no_bias_3d": (lambda: nn.Linear(11, 7, bias=False), WAVE),
    "batch_norm1d_row": (lambda: nn.BatchNorm1d(6, eps=0.1), ROW),
    "batch_norm_not_affine": (lambda: nn.BatchNorm2d(6, affine=False), IMAGE),
    "relu_inplace": (lambda: nn.Sequential(nn.Conv2d(6, 6, 1), nn.ReLU(inplace=True)), IMAGE),
    "relu6": (nn.ReLU6, IMAGE),
    "hardtanh": (lambda: nn.Hardtanh(-0.3, 0.7), IMAGE),
    "leaky_relu": (lambda: nn.LeakyReLU(0.2), IMAGE),
    "sigmoid": (nn.Sigmoid, ROW),
    "tanh": (nn.Tanh, ROW),
    "hardsigmoid": (nn.Hardsigmoid, ROW),
    "hardswish": (nn.Hardswish, ROW),
    "silu": (nn.SiLU, ROW),
    "gelu": (nn.GELU, ROW),
    "gelu_tanh": (lambda: nn.GELU(approximate="tanh"), ROW),
    "max_pool2d": (lambda: nn.MaxPool2d(3, 2, padding=1), IMAGE),
    "max_pool2d_ceil_dilation": (lambda: nn.MaxPool2d((2, 3), ceil_mode=True, dilation=(2, 1)), IMAGE),
    "max_pool1d": (lambda: nn.MaxPool1d(3), WAVE),
    "max_pool_indices_unused": (
        lambda: Lambda(lambda m, x: functional.max_pool2d(x, 2, return_indices=True)[0]),
        IMAGE,
    ),
    "avg_pool2d": (lambda: nn.AvgPool2d(3, 2, padding=1), IMAGE),
    "avg_pool2d_ceil": (lambda: nn.AvgPool2d(3, 2, padding=1, ceil_mode=True), IMAGE),
    "avg_pool2d_ceil_not_counting": (
        lambda: nn.AvgPool2d((4, 3), 2, padding=1, ceil_mode=True, count_include_pad=False),
        IMAGE,
    ),
    "avg_pool1d": (lambda: nn.AvgPool1d(4, 3, padding=2), WAVE),
    "adaptive_avg_pool2d": (lambda: nn.AdaptiveAvgPool2d(1), IMAGE),
    "adaptive_avg_pool2d_divisors": (lambda: nn.AdaptiveAvgPool2d((3, 4)), IMAGE),
    "adaptive_avg_pool2d_none": (lambda: nn.AdaptiveAvgPool2d((1, None)), IMAGE),
    "adaptive_avg_pool1d": (lambda: nn.AdaptiveAvgPool1d(1), WAVE),
    "adaptive_max_pool2d": (lambda: nn.AdaptiveMaxPool2d(1), IMAGE),
    "adaptive_max_pool1d": (lambda: nn.AdaptiveMaxPool1d(1), WAVE),
    "dropout": (lambda: nn.Sequential(nn.Dropout(0.9), nn.Dropout2d(0.9), nn.Conv2d(6, 2, 1)), IMAGE),
    "identity": (lambda: nn.Sequential(nn.Identity(), nn.Linear(6, 2), nn.Identity()), ROW),
    "flatten": (nn.Flatten, IMAGE),
    "unflatten": (lambda: nn.Unflatten(1, (2, 3)), ROW),
    "zero_pad": (lambda: nn.ZeroPad2d((1, 2, 3, 0)), IMAGE),
    "constant_pad1d": (lambda: nn.ConstantPad1d((2, 1), -1.5), WAVE),
    "upsample": (lambda: nn.Upsample(scale_factor=2), IMAGE),
    "upsample_size": (lambda: nn.Upsample(size=(18, 13)), IMAGE),
    "softmax": (lambda: nn.Softmax(dim=1), IMAGE),
    "log_softmax": (lambda: nn.LogSoftmax(dim=-1), ROW),
}


FUNCTIONS = {
    "clamp": (lambda m, x: x.clamp(-0.2, 0.4), IMAGE),
    "clamp_one_side": (lambda m, x: x.clamp(max=0.4), IMAGE),
    "clamp_min": (lambda m, x: torch.clamp_min(x, 0.1), IMAGE),
    "add_value": (lambda m, x: x + x.relu(), IMAGE),
    "add_number": (lambda m, x: 1.5 + x, IMAGE),
    "add_channels": (lambda m, x: x + m.c, IMAGE),
    "add_channels_with_batch_axis": (lambda m, x: x + m.c[None], IMAGE),
    "add_alpha_value": (lambda m, x: torch.add(x, x.relu(), alpha=3), IMAGE),
    "add_alpha_constant": (lambda m, x: torch.add(x, m.c, alpha=-3), IMAGE),
    "sub_constant": (lambda m, x: x - m.c, IMAGE),
    "sub_from_number": (lambda m, x: 2 - x, IMAGE),
    "sub_alpha": (lambda m, x: torch.sub(x.relu(), x, alpha=0.5), IMAGE),
    "rsub_alpha": (lambda m, x: torch.rsub(x, 3.0, alpha=2.0), IMAGE),
    "sub_from_constant": (lambda m, x: m.c - x, IMAGE),
    "mul_value": (lambda m, x: x * x.sigmoid(), IMAGE),
    "mul_broadcast": (lambda m, x: x * x.mean((2, 3), keepdim=True), IMAGE),
    "mul_constant": (lambda m, x: x * m.c, IMAGE),
    "div_number": (lambda m, x: x / 3, IMAGE),
    "div_constant": (lambda m, x: x / m.c, IMAGE),
    "neg": (lambda m, x: -x, IMAGE),
    "exp": (lambda m, x: x.exp(), IMAGE),
    "matmul_constant": (lambda m, x: x @ m.w, IMAGE),
    "mm_constant": (lambda m, x: torch.mm(x, m.c.reshape(6, 1)), ROW),
    "addmm": (lambda m, x: torch.addmm(m.w[0, :6], x, m.w[:6, :6], beta=2, alpha=0.5), ROW),
    "addmm_number_bias": (lambda m, x: torch.addmm(m.c[0, 0], x, m.w[:6, :6]), ROW),
    "cat": (lambda m, x: torch.cat([x, x.relu(), x * 2], -3), IMAGE),
    "mean": (lambda m, x: x.mean((-1, 2)), IMAGE),
    "mean_keepdim": (lambda m, x: x.mean(1, keepdim=True), IMAGE),
    "view_size": (lambda m, x: x.view(x.size(0), -1), IMAGE),
    "view_shape_arithmetic": (lambda m, x: x.view(x.shape[0], x.shape[1] * x.shape[2], x.shape[3]), IMAGE),
    "view_minus_one_batch": (lambda m, x: x.view(-1, 6 * 9 * 8), IMAGE),
    "permute": (lambda m, x: x.permute(0, 2, 3, 1).contiguous(), IMAGE),
    "transpose": (lambda m, x: x.transpose(-1, 1), IMAGE),
    "squeeze_unsqueeze": (lambda m, x: x.mean(2, keepdim=True).squeeze(2).unsqueeze(-1).squeeze(), IMAGE),
    "slice": (lambda m, x: x[:, 1:5:2, -3:, ...], IMAGE),
    "select": (lambda m, x: x[:, 2] + x[..., -1, :8].mean(1, keepdim=True), IMAGE),
    "chunk": (lambda m, x: torch.cat([a.relu() for a in x.chunk(4, 1)][::-1], 1), IMAGE),
    "split": (lambda m, x: sum(p.mean(1, keepdim=True) for p in x.split([4, 2], 1)), IMAGE),
    "split_even": (lambda m, x: x.split(4, 2)[1], IMAGE),
    "unbind": (lambda m, x: x.unbind(1)[3], IMAGE),
    "pad_channels": (lambda m, x: functional.pad(x, (0, 0, 0, 0, 2, 3)), IMAGE),
    "argmax": (lambda m, x: x.argmax(1), IMAGE),
    "argmax_keepdim": (lambda m, x: x.argmax(-1, keepdim=True), IMAGE),
    "interpolate": (lambda m, x: functional.interpolate(x, scale_factor=(3, 2), mode="nearest"), IMAGE),
    "interpolate_shrink": (lambda m, x: functional.interpolate(x, size=(3, 4)), IMAGE),
    "to_float": (lambda m, x: x.to(torch.float32).clone().detach(), IMAGE),
    "literal_constant": (lambda m, x: x * torch.tensor([1.0, -2.0, 3.0, 4.0, 5.0, 6.0]).view(6, 1, 1), IMAGE),
    "made_constant": (lambda m, x: x + torch.arange(8) * torch.ones(9, 1), IMAGE),
    "inplace_chain": (lambda m, x: (x + 1).mul_(2).add_(x).relu_().clamp_(max=3), IMAGE),
    "inplace_result_read_twice": (changed_and_read, IMAGE),
}


def constants():
    torch.manual_seed(1)
    return {"c": torch.rand(6, 1, 1) + 0.5, "w": torch.randn(8, 7)}


def compare(module, *inputs):
    """Trace with two samples of the example, run on three, compare with the module."""
    module.eval()
    graph = trace(module, tuple(x[:2] for x in inputs))
    verify(graph, "float")
    assert all(t.shape[0] is None for t in graph.types.values())
    env = run_float(graph, dict(zip(graph.inputs, (x.numpy() for x in inputs), strict=True)))
    with torch.no_grad():
        wanted = module(*inputs)
    wanted = list(wanted.values()) if isinstance(wanted, dict) else wanted
    wanted = list(wanted) if isinstance(wanted, tuple | list) else [wanted]
    assert len(graph.outputs) == len(wanted)
    for name, tensor in zip(graph.outputs, wanted, strict=True):
        seen = env[name].detach().numpy()
        assert seen.shape == tuple(tensor.shape)
        error = np.abs(seen - tensor.numpy()).max()
        assert error <= FLOAT_REL_ERROR * max(float(tensor.abs().max()), 1e-6)
    return graph


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name):
    make, shape = LAYERS[name]
    compare(make(), torch.randn(shape))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(name):
    function, shape = FUNCTIONS[name]
    compare(Lambda(function, **constants()), torch.randn(shape))


def test_two_inputs_and_named_results():
    function = Lambda(lambda m, x, y: {"sum": x + y, "rectified": x.relu(), "input": y})
    graph = compare(function, torch.randn(ROW), torch.randn(ROW))
    assert len(set(graph.outputs)) == 3


def test_one_value_returned_twice():
    def twice(m, x):
        y = x.relu()
        return y, y

    graph = compare(Lambda(twice), torch.randn(ROW))
    assert graph.nodes[-1].op.name == "identity"


def test_keyword_inputs():
    class Two(nn.Module):
        def forward(self, image, mask):
            return image * mask

    x, y = torch.randn(IMAGE), torch.randn(IMAGE)
    graph = trace(Two(), {"mask": y, "image": x})
    assert set(graph.inputs) == {"image", "mask"}
    seen = run_float(graph, {"image": x.numpy(), "mask": y.numpy()})[graph.outputs[0]]
    np.testing.assert_allclose(seen.numpy(), (x * y).numpy())


def test_a_module_used_twice_and_names():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(6, 6), nn.Tanh())

        def forward(self, x):
            return self.body(self.body(x)) + x

    graph = compare(Net(), torch.randn(ROW))
    assert [n.name for n in graph] == ["body.0", "body.1", "body.0_1", "body.1_1", "add"]
    assert [n.module for n in graph] == ["body.0", "body.1", "body.0", "body.1", ""]
    assert sorted(graph.constants) == ["body.0.bias", "body.0.weight"]


def test_shared_weights_through_matmul_keep_their_name():
    module = Lambda(lambda m, x: torch.matmul(x, m.w.t()), w=torch.randn(7, 6))
    graph = compare(module, torch.randn(ROW))
    assert list(graph.constants) == ["w"]
    np.testing.assert_array_equal(graph.constants["w"], module.w.numpy())


@pytest.mark.parametrize("batch", [1, 2])
def test_module_that_insists_on_its_batch_size(batch):
    graph = trace(Lambda(lambda m, x: x.reshape(batch, -1) * 2), torch.randn(batch, 3, 4))
    verify(graph, "float")
    x = torch.randn(5, 3, 4)
    seen = run_float(graph, {graph.inputs[0]: x.numpy()})[graph.outputs[0]]
    np.testing.assert_array_equal(seen.numpy(), (x.reshape(5, -1) * 2).numpy())


def test_bytes_cast_to_float():
    x = torch.randint(0, 255, (3, 4), dtype=torch.uint8)
    graph = trace(Lambda(lambda m, x: x.float() / 255), x)
    seen = run_float(graph, {graph.inputs[0]: x.float().numpy()})[graph.outputs[0]]
    np.testing.assert_allclose(seen.numpy(), x.numpy() / 255, rtol=1e-6)


def test_half_precision_weights_become_float32():
    module = nn.Linear(6, 7).to(torch.bfloat16)
    graph = trace(module, torch.randn(ROW).to(torch.bfloat16))
    assert graph.constants["weight"].dtype == np.float32
    np.testing.assert_array_equal(graph.constants["weight"], module.weight.detach().float().numpy())
