"""Google's ViT in numpy, from the paper's definition, over Google's own names and shapes (no flax, none of our code).

Dosovitskiy et al. 2021, equations 1-4 and 6-8 of the appendix; flax's defaults: LayerNorm adds 1e-6, gelu is the tanh
approximation, an attention kernel is [width, heads, width of a head], an output kernel [heads, width of a head, width].
"""
import numpy as np

ATTENTION = "MultiHeadDotProductAttention"
OLD = {"posembed": "Transformer/posembed_input/pos_embedding", "attention": f"{ATTENTION}_1", "second": "LayerNorm_2",
       "mlp": "MlpBlock_3"}
NEW = {"posembed": "pos_embedding", "attention": f"{ATTENTION}_0", "second": "LayerNorm_1", "mlp": "MlpBlock_0"}


def weights(names, size, width, depth, heads, patch, classes, token=True, positions=None, dtype="float64"):
    """Random weights under Google's names."""
    rng = np.random.default_rng(3)

    def kernel(*shape, fan=None):
        return (rng.normal(size=shape) * 1.5 / np.sqrt(fan or shape[0])).astype(dtype)

    def vector(*shape):
        return (0.4 * rng.normal(size=shape)).astype(dtype)

    count = (size // patch)**2
    result = {"embedding/kernel": kernel(patch, patch, 3, width, fan=patch * patch * 3),
              "embedding/bias": vector(width), names["posembed"]: vector(1, positions or count, width),
              "Transformer/encoder_norm/scale": 1 + vector(width), "Transformer/encoder_norm/bias": vector(width),
              "head/kernel": kernel(width, classes), "head/bias": vector(classes)}
    if token:
        result["cls"] = vector(1, 1, width)
    for i in range(depth):
        block = f"Transformer/encoderblock_{i}/"
        for norm in ("LayerNorm_0", names["second"]):
            result |= {f"{block}{norm}/scale": 1 + vector(width), f"{block}{norm}/bias": vector(width)}
        for one in ("query", "key", "value"):
            result[f"{block}{names['attention']}/{one}/kernel"] = kernel(width, heads, width // heads)
            result[f"{block}{names['attention']}/{one}/bias"] = vector(heads, width // heads)
        result[f"{block}{names['attention']}/out/kernel"] = kernel(heads, width // heads, width, fan=width)
        result[f"{block}{names['attention']}/out/bias"] = vector(width)
        result |= {f"{block}{names['mlp']}/Dense_0/kernel": kernel(width, 2 * width),
                   f"{block}{names['mlp']}/Dense_0/bias": vector(2 * width),
                   f"{block}{names['mlp']}/Dense_1/kernel": kernel(2 * width, width),
                   f"{block}{names['mlp']}/Dense_1/bias": vector(width)}
    return result


def forward(w, names, images, depth):
    """Logits of images [B, S, S, 3]."""
    w = {name: value.astype(np.float64) for name, value in w.items()}
    kernel = w["embedding/kernel"]
    patch = kernel.shape[0]
    B, S = images.shape[:2]
    x = np.stack([np.einsum("bijc,ijcd->bd", images[:, r:r + patch, c:c + patch], kernel)
                  for r in range(0, S, patch) for c in range(0, S, patch)], 1) + w["embedding/bias"]
    pos, token = w[names["posembed"]], w.get("cls")
    if token is not None and pos.shape[1] == x.shape[1]:  # big_vision: positions first, then the token
        x = np.concatenate([np.repeat(token, B, 0), x + pos], 1)
    elif token is not None:
        x = np.concatenate([np.repeat(token, B, 0), x], 1) + pos
    else:
        x = x + pos

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * w[f"{name}/scale"] + w[f"{name}/bias"]

    for i in range(depth):
        block = f"Transformer/encoderblock_{i}/"
        attention = block + names["attention"]
        y = norm(x, f"{block}LayerNorm_0")
        q, k, v = (np.einsum("bnd,dhe->bhne", y, w[f"{attention}/{one}/kernel"]) +
                   w[f"{attention}/{one}/bias"][:, None] for one in ("query", "key", "value"))
        scores = np.exp(np.einsum("bhne,bhme->bhnm", q, k) / np.sqrt(q.shape[-1]))
        scores /= scores.sum(-1, keepdims=True)
        y = np.einsum("bhnm,bhme,hed->bnd", scores, v, w[f"{attention}/out/kernel"])
        x = x + y + w[f"{attention}/out/bias"]
        y = norm(x, f"{block}{names['second']}") @ w[f"{block}{names['mlp']}/Dense_0/kernel"]
        y = y + w[f"{block}{names['mlp']}/Dense_0/bias"]
        y = y / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
        x = x + y @ w[f"{block}{names['mlp']}/Dense_1/kernel"] + w[f"{block}{names['mlp']}/Dense_1/bias"]
    x = norm(x, "Transformer/encoder_norm")
    return (x[:, 0] if token is not None else x.mean(1)) @ w["head/kernel"] + w["head/bias"]
