"""Functions with gradients of our own: what MindSpore derives or has kernels for takes several times as long on a CPU.

A `bprop` gets the inputs, the output and the gradient by the output, and returns the gradients by the inputs. Matrices
are [R, D]: R rows (samples and tokens) of width D, for sums over the last of three axes take eight times as long.
"""
import math

import mindspore as ms
from mindspore import nn, ops

# Beside float64 a bare number would be a float32.
_SQRT_HALF = ms.Tensor(math.sqrt(1 / 2), ms.float64)
_DENSITY_AT_0 = ms.Tensor(1 / math.sqrt(2 * math.pi), ms.float64)
_MATMUL, _MATMUL_TA, _MATMUL_TB = ops.MatMul(), ops.MatMul(transpose_a=True), ops.MatMul(transpose_b=True)
_STACKED, _STACKED_TA = ops.BatchMatMul(), ops.BatchMatMul(transpose_a=True)
_STACKED_TB = ops.BatchMatMul(transpose_b=True)
_BIAS_ADD = ops.BiasAdd()


def _sum_of_rows(x):
    """Add the rows of [R, D] up, to [D]: as a product, which takes half as long as a sum."""
    return _MATMUL(ops.ones((1, x.shape[0]), x.dtype), x).reshape(-1)


def _mean(x):
    """The mean of each row of [R, D]: [R, 1]."""
    return x.mean(axis=-1, keep_dims=True)


# Where shapes differ, each + and * of a graph would keep four times its result for ever, and take twice as long.
def _across(x, width):
    """Repeat a column [R, 1] to [R, width]."""
    return _MATMUL(x, ops.ones((1, width), x.dtype))


def _down(x, rows):
    """Repeat a row [D] to [rows, D]."""
    return _MATMUL(ops.ones((rows, 1), x.dtype), x.reshape(1, -1))


class Product(nn.Cell):
    """The product in `dtypes.products` of rows [R, D] and the transpose of a weight [out, D]: [R, out]."""

    def __init__(self, dtypes):
        super().__init__()
        self.products, self.result = dtypes.products, dtypes.weights

    def construct(self, x, weight):
        return ops.cast(_MATMUL_TB(ops.cast(x, self.products), ops.cast(weight, self.products)), self.result)

    def bprop(self, x, weight, out, dout):
        x, weight = ops.cast(x, self.products), ops.cast(weight, self.products)
        dout = ops.cast(dout, self.products)
        dx, dw = _MATMUL(dout, weight), _MATMUL_TA(x, dout).T  # faster than dout's transpose by x
        return ops.cast(dx, self.result), ops.cast(dw, self.result)


class Matmul(nn.Cell):
    """The products of two stacks of matrices, [..., M, K] by [..., K, N] or, transposed, [..., N, K], in a dtype.

    A Cell, as MindSpore fails to differentiate a function that is given the same dtype twice beside a Cell with a
    `bprop` ("MultitypeFuncGraph cannot find fn").
    """

    def __init__(self, dtypes, transpose_b=False):
        super().__init__()
        self.products, self.result, self.transpose_b = dtypes.products, dtypes.weights, transpose_b

    def construct(self, a, b):
        product = _STACKED_TB if self.transpose_b else _STACKED
        return ops.cast(product(ops.cast(a, self.products), ops.cast(b, self.products)), self.result)

    def bprop(self, a, b, out, dout):
        a, b, dout = ops.cast(a, self.products), ops.cast(b, self.products), ops.cast(dout, self.products)
        if self.transpose_b:
            da, db = _STACKED(dout, b), _STACKED_TA(dout, a)
        else:
            da, db = _STACKED_TB(dout, b), _STACKED_TA(a, dout)
        return ops.cast(da, self.result), ops.cast(db, self.result)


class AddBias(nn.Cell):
    """Add a bias [D] to rows [R, D]."""

    def construct(self, x, bias):
        return _BIAS_ADD(x, bias)

    def bprop(self, x, bias, out, dout):
        return dout, _sum_of_rows(dout)


class Scale(nn.Cell):
    """Multiply rows [R, D] by a weight [D]."""

    def construct(self, x, weight):
        return x * _down(weight, x.shape[0])

    def bprop(self, x, weight, out, dout):
        return dout * _down(weight, x.shape[0]), _sum_of_rows(dout * x)


class Standardize(nn.Cell):
    """Bring rows [R, D] to mean 0 and (biased) variance 1; give them, and what the deviations were multiplied by."""

    def construct(self, x, epsilon):
        x = x - _across(_mean(x), x.shape[1])
        scale = ops.rsqrt(_mean(ops.square(x)) + epsilon)
        return x * _across(scale, x.shape[1]), scale

    def bprop(self, x, epsilon, out, dout):
        y, scale = out
        dy, width = dout[0], x.shape[1]
        dx = dy - _across(_mean(dy), width) - y * _across(_mean(dy * y), width)
        return dx * _across(scale, width), ops.zeros_like(epsilon)


class Gelu(nn.Cell):
    """The exact GELU; give it, and the normal distribution's function, which the gradient needs again."""

    def construct(self, x):
        below = 0.5 + 0.5 * ops.erf(x * ops.cast(_SQRT_HALF, x.dtype))
        return x * below, below

    def bprop(self, x, out, dout):
        return (dout[0] * (out[1] + x * ops.exp(ops.square(x) * -0.5) * ops.cast(_DENSITY_AT_0, x.dtype)),)


class Softmax(nn.Cell):
    """The softmax over the last axis."""

    def construct(self, x):
        return ops.softmax(x)

    def bprop(self, x, out, dout):
        width = x.shape[-1]
        sums = (out * dout).reshape(-1, width).sum(axis=-1, keepdims=True)
        return (out * (dout - _across(sums, width).reshape(x.shape)),)
