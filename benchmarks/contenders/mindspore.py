"""MindSpore: ours and MindCV."""
import os

import mindspore as ms
from mindspore import nn, ops

from benchmarks.contenders.turns import IN_A_ROW, batch, ours_whole
from vit import memory


def ours(variant, config, size, turns):
    """Ours, bare: a jitted step of one's own."""
    memory.keep_freed()  # as a run of ours does
    turns.repeat(_bare(_ours(config), config, size))


def whole(variant, config, size, turns):
    """Ours, through FastEstimator's Estimator."""
    ours_whole("ms", config, variant, size, turns)


def whole_bf16(variant, config, size, turns):
    """Ours with --precision bf16, through FastEstimator's Estimator."""
    ours_whole("ms", config, variant, size, turns, precision="bf16")


def mindcv(variant, config, size, turns):
    """MindCV's ViT, bare, in graph mode."""
    turns.repeat(_bare(_mindcv(config), config, size))


def mindcv_kept(variant, config, size, turns):
    """MindCV's ViT, bare, in graph mode, keeping freed memory and its calling thread at rest as ours does."""
    memory.keep_freed()
    os.environ["MS_DEV_HOST_BLOCKING_RUN"] = "1"  # as `vit/backend/mindspore.py` does
    mindcv(variant, config, size, turns)


def ours_1(variant, config, size, turns):
    """Ours, inference of one image, 50 in a row."""
    turns.repeat(_inference(_ours(config), config, 1), IN_A_ROW)


def ours_128(variant, config, size, turns):
    """Ours, inference of 128 images."""
    turns.repeat(_inference(_ours(config), config, 128))


def mindcv_1(variant, config, size, turns):
    """MindCV's ViT, inference of one image, 50 in a row."""
    turns.repeat(_inference(_mindcv(config), config, 1), IN_A_ROW)


def mindcv_128(variant, config, size, turns):
    """MindCV's ViT, inference of 128 images."""
    turns.repeat(_inference(_mindcv(config), config, 128))


def _ours(config):
    from vit.backend import load_script
    return load_script("ms").ViT(config)


def _mindcv(config):
    from mindcv.models.vit import VisionTransformer
    return VisionTransformer(
        image_size=config.image_size, patch_size=config.patch_size, num_classes=config.num_classes,
        embed_dim=config.width, depth=config.depth, num_heads=config.heads, mlp_ratio=config.mlp_dim / config.width,
        drop_rate=config.dropout, attn_drop_rate=config.attention_dropout)


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


def _inference(model, config, size):
    x = ms.Tensor(batch(config, size)[0].transpose(0, 3, 1, 2).copy())
    model.set_train(False)

    @ms.jit
    def forward(x):
        return model(x)

    return lambda: forward(x).asnumpy()


def _loss_of(model):
    def loss(x, y):  # MindSpore compiles no lambda
        return ops.cross_entropy(model(x), y)

    return loss
