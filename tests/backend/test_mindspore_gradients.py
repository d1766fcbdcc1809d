"""The gradients that are ours are those that MindSpore derives from plain operations, in float64."""
import numpy as np
import pytest

from vit.model.precision import Dtypes


def _cases(ms):
    """Per name: the Cell, the same from plain operations, and the shapes of what they are functions of."""
    from mindspore import ops

    from vit.backend import mindspore as backend
    from vit.backend import mindspore_gradients as ours
    double, epsilon = Dtypes(ms.float64, ms.float64), ms.Tensor(0.01, ms.float64)
    standardize = ours.Standardize()

    def plain_standardize(x):
        x = x - x.mean(-1, True)
        return x / ops.sqrt((x * x).mean(-1, True) + epsilon)

    def plain_softmax(x):
        x = ops.exp(x)
        return x / x.sum(-1, keepdims=True)

    def plain_gelu(x):
        return x / 2 * (1 + ops.erf(x / ops.sqrt(ms.Tensor(2, ms.float64))))

    return {
        "product": (ours.Product(double), lambda x, w: ops.matmul(x, w.T), [(5, 3), (4, 3)]),
        "bias": (ours.AddBias(), lambda x, b: x + b, [(5, 3), (3,)]),
        "scale": (ours.Scale(), lambda x, w: x * w, [(5, 3), (3,)]),
        "standardize": (lambda x: standardize(x, epsilon)[0], plain_standardize, [(5, 7)]),
        "gelu": (backend.gelu, plain_gelu, [(5, 7)]),
        "softmax": (backend.softmax, plain_softmax, [(2, 3, 5, 7)]),
        "matmul": (ours.Matmul(double), ops.matmul, [(2, 3, 4, 5), (2, 3, 5, 6)]),
        "matmul, transposed": (ours.Matmul(double, transpose_b=True),
                               lambda a, b: ops.matmul(a, b.swapaxes(-1, -2)), [(2, 3, 4, 5), (2, 3, 6, 5)]),
    }


@pytest.mark.backend("ms")
@pytest.mark.parametrize("name", ["product", "bias", "scale", "standardize", "gelu", "softmax", "matmul",
                                  "matmul, transposed"])
def test_a_gradient_of_our_own_is_the_derived_one(name):
    ms = pytest.importorskip("mindspore")
    ours, plain, shapes = _cases(ms)[name]
    rng = np.random.default_rng(0)
    inputs = [ms.Tensor(rng.normal(size=shape)) for shape in shapes]
    weights = ms.Tensor(rng.normal(size=plain(*inputs).shape))  # a sum alone would not see a softmax's gradient
    found = [ms.value_and_grad(lambda *x, of=of: (of(*x) * weights).sum(), tuple(range(len(shapes))))(*inputs)
             for of in (ours, plain)]
    for one, other in zip(*(([value, *(gradients if isinstance(gradients, tuple) else [gradients])])
                            for value, gradients in found), strict=True):
        assert one.dtype == ms.float64
        np.testing.assert_allclose(one.asnumpy(), other.asnumpy(), rtol=1e-12, atol=1e-13)
