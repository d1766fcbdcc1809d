"""MindSpore: ours and MindCV."""
import mindspore as ms
from mindspore import nn, ops

from benchmarks.contenders.turns import batch, ours_whole


def ours(variant, config, size, turns):
    """Ours, bare: a jitted step of one's own."""
    from vit.backend import load_script
    turns.repeat(_bare(load_script("ms").ViT(config), config, size))


def whole(variant, config, size, turns):
    """Ours, through FastEstimator's Estimator."""
    ours_whole("ms", config, variant, size, turns)


def mindcv(variant, config, size, turns):
    """MindCV's ViT, bare, in graph mode."""
    from mindcv.models.vit import VisionTransformer
    model = VisionTransformer(
        image_size=config.image_size, patch_size=config.patch_size, num_classes=config.num_classes,
        embed_dim=config.width, depth=config.depth, num_heads=config.heads, mlp_ratio=config.mlp_dim / config.width,
        drop_rate=config.dropout, attn_drop_rate=config.attention_dropout)
    turns.repeat(_bare(model, config, size))


def _bare(model, config, size):
    images, labels = batch(config, size)
    x, y = ms.Tensor(images.transpose(0, 3, 1, 2).copy()), ms.Tensor(labels, ms.int32)
    optimizer = nn.SGD(model.trainable_params(), 0.01, momentum=0.9, weight_decay=1e-4)
    model.set_train()
    differentiate = ms.value_and_grad(_loss_of(model), None, optimizer.parameters)

    @ms.jit
    def train(x, y):
        loss, gradients = differentiate(x, y)
        return ops.depend(loss, optimizer(gradients))

    return lambda: train(x, y).asnumpy()


def _loss_of(model):
    def loss(x, y):  # MindSpore compiles no lambda
        return ops.cross_entropy(model(x), y)

    return loss
