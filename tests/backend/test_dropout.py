"""What each framework drops is what numpy says, to the bit, however it is run; keys that nobody gives are drawn."""
import importlib
import math

import numpy as np
import pytest

from vit.backend import load_script
from vit.model import dropout, parameters
from vit.model.config import ViTConfig
from vit.model.precision import Dtypes

SITES = {
    "a token's values": dropout.site_at(0, (17, 16), 0.3),
    "a last word that is used in part, late": dropout.site_at(2**31 - 3, (2, 7, 7), 0.1),
    "a path": dropout.site_at(2**32 - 1, (1, 1), 0.4),
    "16 bits, odd": dropout.site_at(1000, (3, 7), 0.001),
    "16 bits, nearly all": dropout.site_at(77, (5, 5), 0.999),
}
KEYS = np.array([[0, 0], [-1, -1], [0, -1], [2**31 - 1, -2**31], [-2**31, 2**31 - 1], [1, 2],
                 *dropout.keys(3, 1, 0, np.arange(10))], np.int32)
MODULES = {"torch": "torch", "tf": "tensorflow", "ms": "mindspore"}


def _module(backend):
    load_script(backend)
    return importlib.import_module(f"vit.backend.dropout.{MODULES[backend]}")


def _layers(backend, monkeypatch, dtype):
    """A framework's Dropout of each site."""
    module = _module(backend)
    monkeypatch.setattr(module, "sites", lambda config: SITES)
    framework = {"torch": "torch", "tf": "tf", "ms": "ms"}[backend]
    dtypes = Dtypes(*[getattr(getattr(module, framework), dtype)] * 2)
    return [module.Dropout(None, name, dtypes) for name in SITES]


def _inputs(dtype):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(len(KEYS), *site.shape)).astype(dtype) for site in SITES.values()]


def _expected(dtype):
    return [x * (dropout.keep(KEYS, site).astype(dtype) * dtype(1 / site.kept))
            for x, site in zip(_inputs(dtype), SITES.values(), strict=True)]


def _torch(layers, inputs, way, monkeypatch):
    module = _module("torch")
    torch = module.torch
    if way.startswith("on a GPU") and not torch.cuda.is_available():
        pytest.skip("no GPU")
    if way == "as on a GPU":
        monkeypatch.setattr(module, "flags_once", module.flags)

    def run(inputs, key):
        return [layer(x, key) for layer, x in zip(layers, inputs, strict=True)]

    device = "cuda" if way.startswith("on a GPU") else "cpu"
    layers = [layer.to(device) for layer in layers]
    run = torch.compile(run) if way.endswith("compiled") else run
    found = run([torch.tensor(x, device=device) for x in inputs], torch.tensor(KEYS, device=device))
    return [x.cpu().numpy() for x in found]


def _tf(layers, inputs, way, monkeypatch):
    tf = _module("tf").tf

    def run(inputs, key):
        return [layer(x, key) for layer, x in zip(layers, inputs, strict=True)]

    if way != "eager":
        any_batch = [[tf.TensorSpec((None, *x.shape[1:]), x.dtype) for x in inputs], tf.TensorSpec((None, 2), tf.int32)]
        run = tf.function(run, input_signature=any_batch, jit_compile=way == "XLA")
    return [x.numpy() for x in run([tf.constant(x) for x in inputs], tf.constant(KEYS))]


def _ms(layers, inputs, way, monkeypatch):
    module = _module("ms")
    ms = module.ms
    if "operations" in way:
        for layer in layers:
            layer.keep = module.Flags(layer.site)

    def run(key, *inputs):
        return tuple([layers[i](inputs[i], key) for i in range(len(inputs))])

    run = ms.jit(run) if "graph" in way else run
    return [x.asnumpy() for x in run(ms.Tensor(KEYS), *map(ms.Tensor, inputs))]


WAYS = {"torch": ("eager", "compiled", "as on a GPU", "on a GPU", "on a GPU, compiled"),
        "tf": ("eager", "function", "XLA"),
        "ms": ("PyNative", "graph", "operations, PyNative", "operations, graph")}
RUN = {"torch": _torch, "tf": _tf, "ms": _ms}


@pytest.mark.parametrize(("backend", "way", "dtype"), [
    pytest.param(backend, way, dtype, marks=pytest.mark.backend(backend))
    for backend, ways in WAYS.items() for way in ways
    for dtype in ((np.float32, np.float64) if way in ("eager", "PyNative", "XLA") else (np.float32, ))])
def test_what_is_kept_and_its_scale_are_numpys_bits(backend, way, dtype, monkeypatch):
    found = RUN[backend](_layers(backend, monkeypatch, dtype.__name__), _inputs(dtype), way, monkeypatch)
    for name, ours, expected in zip(SITES, found, _expected(dtype), strict=True):
        assert ours.dtype == expected.dtype
        np.testing.assert_array_equal(ours, expected, err_msg=name)


def _signed_shift(module):
    """PyTorch's words, with the sign left in the bits that a shift brings in."""
    def words(key, index):
        a, b = key.split(1, dim=1)
        h = (index ^ a) * module.FIRST
        h = ((h ^ h >> 15) + b) * (module.SECOND - 2**32)
        return h ^ h >> 16
    return words


DEFECTS = {
    "torch": ("words", _signed_shift),
    "tf": ("_xor_shifted", lambda module, right=14: lambda h, bits: module.tf.bitwise.bitwise_xor(
        h, module.tf.bitwise.right_shift(h, module.tf.constant(min(bits, right), module.tf.uint32)))),
    "ms": ("mixed_index", lambda module: lambda site: dropout.mixed_index(site._replace(start=site.start + 1))),
}


@pytest.mark.parametrize("defect", ["words", "scale"])
def test_a_defect_is_seen(backend, defect, monkeypatch):
    """Another shift or index; the scale of the rate that was asked for in place of the rate that is kept."""
    module = _module(backend)
    if defect == "words":
        name, plant = DEFECTS[backend]
        monkeypatch.setattr(module, name, plant(module))
    expected = _expected(np.float32)
    if defect == "scale":
        monkeypatch.setattr(dropout.Site, "kept", property(lambda site: (site.level + 0.4) / 2**site.bits))
    layers = _layers(backend, monkeypatch, "float32")
    way = "operations, PyNative" if backend == "ms" and defect == "words" else WAYS[backend][0]
    found = RUN[backend](layers, _inputs(np.float32), way, monkeypatch)
    assert not all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.backend("ms")
def test_mindspores_node_has_a_number_that_another_process_has_too():
    """A graph that was compiled by another process finds its function by it, so no address may be in it."""
    module = _module("ms")
    sites = list(SITES.values())
    numbers = [module.on_host(site).fn_id for site in (*sites, *sites)]
    assert numbers[:len(sites)] == numbers[len(sites):]
    assert len(set(numbers)) == len(sites)


# A loop of one's own, that knows nothing of keys.
CONFIG = ViTConfig(image_size=16, patch_size=4, width=16, depth=2, heads=2, mlp_dim=32, num_classes=10, dropout=0.3,
                   attention_dropout=0.2, drop_path=0.2)


def _model(backend):
    script = load_script(backend)
    return script, script.from_numpy(script.ViT(CONFIG), parameters.initial(CONFIG, seed=1))


def _torch_loop():
    script, model = _model("torch")
    torch, F = script.torch, script.torch.nn.functional
    images, labels = torch.randn(8, 3, 16, 16), torch.arange(8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    losses = []
    for _ in range(4):
        loss = F.cross_entropy(model.train()(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [F.cross_entropy(model.eval()(images), labels).item() for _ in range(2)]


def _tf_loop():
    script, model = _model("tf")
    tf = script.tf
    images, labels = tf.random.normal((8, 16, 16, 3)), tf.range(8)
    optimizer = tf.keras.optimizers.legacy.SGD(0.0)

    def loss_of(training):
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(images, training=training)))

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = loss_of(training=True)
        optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables,
                                      strict=True))
        return loss

    return [float(step()) for _ in range(4)], [float(loss_of(training=False)) for _ in range(2)]


def _ms_loop():
    script, model = _model("ms")
    ms, nn, ops = script.ms, script.nn, script.ops
    images, labels = ops.randn(8, 3, 16, 16), ms.Tensor(np.arange(8), ms.int32)
    optimizer = nn.SGD(model.trainable_params(), learning_rate=0.0)

    def loss_of(images, labels):
        return ops.cross_entropy(model(images), labels)

    differentiate = ms.value_and_grad(loss_of, None, model.trainable_params())

    @ms.jit
    def step(images, labels):
        loss, gradients = differentiate(images, labels)
        optimizer(gradients)
        return loss

    model.set_train()
    losses = [float(step(images, labels)) for _ in range(4)]
    model.set_train(False)
    return losses, [float(loss_of(images, labels)) for _ in range(2)]


@pytest.mark.parametrize("loop", [pytest.param(_torch_loop, marks=pytest.mark.backend("torch")),
                                  pytest.param(_tf_loop, marks=pytest.mark.backend("tf")),
                                  pytest.param(_ms_loop, marks=pytest.mark.backend("ms"))])
def test_in_a_loop_of_ones_own_each_step_drops_other_values(loop):
    """The weights stay (a rate of 0) and so do the images, so losses differ by what is dropped alone."""
    trained, evaluated = loop()
    assert len(set(trained)) == len(trained)
    assert evaluated[0] == evaluated[1], "evaluation drops nothing"


def _drawn(backend):
    """Keys of 20,000 images from two calls of one graph."""
    module = _module(backend)
    draw, x = module.draw_keys, np.zeros((20_000, 1), np.float32)
    if backend == "torch":
        return [draw(module.torch.tensor(x)).numpy() for _ in range(2)]
    if backend == "tf":
        graph = module.tf.function(draw)
        return [graph(module.tf.constant(x)).numpy() for _ in range(2)]
    graph = module.ms.jit(draw)
    return [graph(module.ms.Tensor(x)).asnumpy() for _ in range(2)]


def test_drawn_keys_keep_the_rate(backend):
    """At significance 1e-6 (two-sided, |z| < 4.9, over the rate, its agreement between two calls, and neighbours)."""
    site = dropout.site_at(0, (64,), 0.3)
    for draw in (keys := _drawn(backend)):
        assert draw.dtype == np.int32 and len(np.unique(draw.view(np.int64))) == len(draw)
    first, second = (dropout.keep(draw, site) for draw in keys)
    agreement = site.kept**2 + (1 - site.kept)**2
    for hits, share in ((first, site.kept), (second, site.kept), (first == second, agreement),
                        (first[1:] == first[:-1], agreement)):
        assert abs(hits.sum() - hits.size * share) < 4.9 * math.sqrt(hits.size * share * (1 - share))


@pytest.mark.parametrize("rate", [0.01, 0.3])
def test_a_model_that_is_given_no_keys_drops_what_drawn_ones_say(backend, rate, monkeypatch):
    script = load_script(backend)
    config = CONFIG.replace(dropout=rate, depth=1)
    model = script.from_numpy(script.ViT(config), parameters.initial(config, seed=1))
    images = np.random.default_rng(0).normal(size=(64, 16, 16, 3) if backend == "tf" else (64, 3, 16, 16))
    make = {"torch": lambda: script.torch.tensor, "tf": lambda: script.tf.constant, "ms": lambda: script.ms.Tensor}
    images, drawn = make[backend]()(images.astype(np.float32)), []
    monkeypatch.setattr(script, "draw_keys", lambda x, draw=script.draw_keys: drawn.append(draw(x)) or drawn[-1])

    def train(*key):
        out = (model(images, *key, training=True) if backend == "tf" else
               (model.train() if backend == "torch" else model.set_train())(images, *key))
        return out.asnumpy() if backend == "ms" else out.detach().numpy() if backend == "torch" else out.numpy()

    ours = train()
    np.testing.assert_array_equal(ours, train(*drawn))
    assert len(drawn) == 1, "keys that are given are taken"
    assert np.abs(ours - train()).max() > 1e-3
    key = drawn[0].asnumpy() if backend == "ms" else drawn[0].numpy()
    kept = dropout.keep(key, dropout.sites(config)["blocks.0.mlp.fc1"])
    assert abs((1 - kept.mean()) - rate) < 0.002 + 4.9 * math.sqrt(rate * (1 - rate) / kept.size)
