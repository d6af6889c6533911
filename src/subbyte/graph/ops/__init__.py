"""All operators; importing the package fills the registry (see ``op.py``)."""

from __future__ import annotations

from subbyte.graph.ops.add import Add, IntAdd, Sub
from subbyte.graph.ops.affine import Affine
from subbyte.graph.ops.argmax import Argmax
from subbyte.graph.ops.avg_pool import AvgPool, IntAvgPool
from subbyte.graph.ops.batch_norm import BatchNorm
from subbyte.graph.ops.channel_stack import IntChannelStack
from subbyte.graph.ops.concat import Concat
from subbyte.graph.ops.conv import Conv, IntConv
from subbyte.graph.ops.identity import Identity
from subbyte.graph.ops.linear import IntLinear, Linear
from subbyte.graph.ops.linear_norm import IntLinearArgmax, IntLinearNorm
from subbyte.graph.ops.linear_per_token import IntLinearPerToken
from subbyte.graph.ops.log_softmax import IntLogSoftmax, LogSoftmax
from subbyte.graph.ops.lut import IntLut
from subbyte.graph.ops.max_pool import MaxPool
from subbyte.graph.ops.mean import IntMean, Mean
from subbyte.graph.ops.mul import IntMul, Mul
from subbyte.graph.ops.op import Op, op_class, op_names
from subbyte.graph.ops.pad import IntPad, Pad
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.ops.rescale import IntRescale
from subbyte.graph.ops.reshape import Reshape
from subbyte.graph.ops.resize_nearest import ResizeNearest
from subbyte.graph.ops.slice import Slice
from subbyte.graph.ops.softmax import IntSoftmax, Softmax
from subbyte.graph.ops.transpose import Transpose
from subbyte.graph.ops.trim import IntTrim
from subbyte.graph.ops.unary import Unary

__all__ = [
    "Add",
    "Affine",
    "Argmax",
    "AvgPool",
    "BatchNorm",
    "Concat",
    "Conv",
    "Identity",
    "IntAdd",
    "IntAvgPool",
    "IntChannelStack",
    "IntConv",
    "IntLinear",
    "IntLinearArgmax",
    "IntLinearNorm",
    "IntLinearPerToken",
    "IntLogSoftmax",
    "IntLut",
    "IntMean",
    "IntMul",
    "IntPad",
    "IntRescale",
    "IntSoftmax",
    "IntTrim",
    "Linear",
    "LogSoftmax",
    "MaxPool",
    "Mean",
    "Mul",
    "Op",
    "Pad",
    "Rectify",
    "Reshape",
    "ResizeNearest",
    "Slice",
    "Softmax",
    "Sub",
    "Transpose",
    "Unary",
    "op_class",
    "op_names",
]
