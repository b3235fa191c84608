"""Functions and modules that compile into one graph, however they are compiled.

For each, `SAMPLES` has a function that creates it and its inputs. All can be back-propagated.
"""

import dataclasses
import functools

import torch
from torch import nn
from torch.nn import functional


def _x(*shape):
    return torch.linspace(-1.0, 1.0, torch.Size(shape).numel()).view(shape).requires_grad_()


def _closure():
    factor = 3.0

    def scaled(x):
        return x * factor

    return scaled, (_x(3),), {}


@dataclasses.dataclass
class _Config:
    scale: float
    bias: torch.Tensor


@dataclasses.dataclass
class _Output:
    hidden: torch.Tensor
    last: torch.Tensor | None = None


def _dataclass_input():
    def apply(x, config):
        return x * config.scale + config.bias

    return apply, (_x(3), _Config(2.0, torch.ones(3))), {}


def _dataclass_output():
    def wrap(x):
        return _Output(hidden=x.sin())

    return wrap, (_x(3),), {}


def _dict_output():
    def named(x):
        return {"double": x * 2, "parts": [x + 1, (x > 0, None)], "name": "n", "size": x.shape[0]}

    return named, (_x(3),), {}


def _optional(with_it):
    def add(x, bias=None, *, scale=1):
        x = x if bias is None else x + bias
        return x * scale

    return add, (_x(3),), {"bias": _x(3), "scale": 2} if with_it else {}


def _in_place_on_input():
    def fill(x, cache):
        cache[1:3].copy_(x.detach()[:2])
        return x + cache[:3]

    return fill, (_x(3), torch.zeros(5)), {}


def _in_place_on_intermediate():
    def scatter(x):
        kept = torch.zeros_like(x)
        kept.scatter_(-1, x.topk(2).indices, 1.0)
        return x * kept

    return scatter, (_x(2, 5),), {}


def _loop_over_shape():
    def total(x):
        for index in range(x.dim()):
            x = x.cumsum(index)
        return x

    return total, (_x(2, 3),), {}


def _partial():
    return functools.partial(functional.gelu, approximate="tanh"), (_x(3),), {}


def _no_grad_inside():
    def stopped(x):
        with torch.no_grad():
            scale = x.abs().max()
        return x / scale

    return stopped, (_x(3),), {}


def _generator():
    def pairs(x):
        return sum(a * b for a, b in zip(x.unbind(0), x.flip(0).unbind(0), strict=True))

    return pairs, (_x(3, 2),), {}


def _dropout():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5)), (_x(2, 3),), {}


def _linear():
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.GELU()), (_x(2, 3),), {}


def _conv_net():
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
    )
    return nn.Sequential(net, nn.Linear(36, 2)), (_x(2, 1, 8, 8),), {}


def _attention():
    attend = nn.MultiheadAttention(8, 2, batch_first=True)
    return attend, (_x(2, 3, 8), _x(2, 4, 8), _x(2, 4, 8)), {"need_weights": False}


def _transformer_layer():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    return layer, (_x(2, 3, 8),), {}


def _lstm_cell():
    return nn.LSTMCell(3, 4), (_x(2, 3), (_x(2, 4), _x(2, 4))), {}


def _embedding():
    return nn.Embedding(10, 4), (torch.arange(6).view(2, 3),), {}


def _sdpa():
    def attend(query, key, value):
        return functional.scaled_dot_product_attention(query, key, value, is_causal=True)

    return attend, tuple(_x(2, 2, 4, 8) for _ in range(3)), {}


class _Cache:
    """A cache that a model keeps between calls, as an object of a custom class."""

    def __init__(self):
        self.keys = torch.zeros(2, 4, 3)

    def update(self, key, position):
        self.keys[:, position : position + 1] = key
        return self.keys


def _cache_object():
    def step(x, cache):
        return x @ cache.update(x.detach(), 1).transpose(1, 2)

    return step, (_x(2, 1, 3), _Cache()), {}


class _Shared(nn.Module):
    """A child that is called twice, and a method that the child does not have."""

    def __init__(self):
        super().__init__()
        self.child = nn.Linear(3, 3)
        self.names = {"first": 1, "second": 2}

    def _scaled(self, x, name):
        return self.child(x) * self.names[name]

    def forward(self, x):
        return self._scaled(self._scaled(x, "first"), "second")


def _shared_child():
    return _Shared(), (_x(2, 3),), {}


def _custom_function():
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad * 2 + x * 0

    return Double.apply, (_x(3),), {}


SAMPLES = {
    "attention": _attention,
    "cache object": _cache_object,
    "closure": _closure,
    "conv net": _conv_net,
    "custom autograd function": _custom_function,
    "dataclass input": _dataclass_input,
    "dataclass output": _dataclass_output,
    "dict output": _dict_output,
    "dropout": _dropout,
    "embedding": _embedding,
    "generator": _generator,
    "in-place on an input": _in_place_on_input,
    "in-place on an intermediate": _in_place_on_intermediate,
    "linear": _linear,
    "loop over dimensions": _loop_over_shape,
    "LSTM cell": _lstm_cell,
    "no_grad inside": _no_grad_inside,
    "optional argument": functools.partial(_optional, True),
    "optional argument left out": functools.partial(_optional, False),
    "partial": _partial,
    "SDPA": _sdpa,
    "shared child": _shared_child,
    "transformer layer": _transformer_layer,
}
