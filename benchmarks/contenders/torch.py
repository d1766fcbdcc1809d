"""PyTorch: ours, FastEstimator's own script, Hugging Face, and a plain ViT with fused attention."""
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.contenders.turns import IN_A_ROW, batch, fe_whole, ours_whole
from vit import memory


def ours(variant, config, size, turns):
    """Ours, bare: a loop of one's own."""
    memory.keep_freed()  # as a run of ours does
    turns.repeat(_bare(_ours(config), config, size, _sgd))


def ours_compiled(variant, config, size, turns):
    """Ours, bare, under torch.compile."""
    memory.keep_freed()
    turns.repeat(_bare(torch.compile(_ours(config)), config, size, _sgd))


def whole(variant, config, size, turns):
    """Ours, through FastEstimator's Estimator."""
    ours_whole("torch", config, variant, size, turns)


def whole_compiled(variant, config, size, turns):
    """Ours with --compile, through FastEstimator's Estimator."""
    ours_whole("torch", config, variant, size, turns, compiled=True)


def whole_bf16(variant, config, size, turns):
    """Ours with --precision bf16, through FastEstimator's Estimator."""
    ours_whole("torch", config, variant, size, turns, precision="bf16")


def fe(variant, config, size, turns):
    """FastEstimator's own script, through its Estimator."""
    fe_whole(FastEstimators(config), _sgd, size, config, True, turns)


def fe_kept(variant, config, size, turns):
    """FastEstimator's own script, through its Estimator, keeping freed memory as ours does."""
    memory.keep_freed()
    fe(variant, config, size, turns)


def fe_bare(variant, config, size, turns):
    """FastEstimator's own model, bare."""
    turns.repeat(_bare(FastEstimators(config), config, size, _sgd))


def huggingface(variant, config, size, turns):
    """Hugging Face's ViTForImageClassification, bare."""
    turns.repeat(_bare(_huggingface(config), config, size, _sgd, lambda out: out.logits))


def huggingface_kept(variant, config, size, turns):
    """Hugging Face's ViTForImageClassification, bare, keeping freed memory as ours does."""
    memory.keep_freed()
    huggingface(variant, config, size, turns)


def plain(variant, config, size, turns):
    """A plain ViT with fused attention, bare."""
    turns.repeat(_bare(Plain(config), config, size, _sgd))


def plain_compiled(variant, config, size, turns):
    """The plain ViT under torch.compile."""
    turns.repeat(_bare(torch.compile(Plain(config)), config, size, _sgd))


def ours_1(variant, config, size, turns):
    """Ours, inference of one image, 50 in a row."""
    turns.repeat(_inference(_ours(config), config, 1), IN_A_ROW)


def ours_128(variant, config, size, turns):
    """Ours, inference of 128 images."""
    turns.repeat(_inference(_ours(config), config, 128))


def plain_1(variant, config, size, turns):
    """The plain ViT, inference of one image, 50 in a row."""
    turns.repeat(_inference(Plain(config), config, 1), IN_A_ROW)


def plain_128(variant, config, size, turns):
    """The plain ViT, inference of 128 images."""
    turns.repeat(_inference(Plain(config), config, 128))


def peak(variant, config, size, turns):
    """Products of 2,048 x 2,048 matrices in float32: 10 of them, 172 GFLOP."""
    a, b, c = (torch.rand(2048, 2048) for _ in range(3))

    def step():
        for _ in range(10):
            torch.mm(a, b, out=c)

    turns.repeat(step)


def _ours(config):
    from vit.backend import load_script
    return load_script("torch").ViT(config)


def _sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=1e-4)


def _bare(model, config, size, optimizer, logits=lambda out: out):
    images, labels = batch(config, size)
    x, y = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels)
    optimizer = optimizer(model.parameters())
    model.train()

    def step():
        optimizer.zero_grad()
        loss = F.cross_entropy(logits(model(x)), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _inference(model, config, size):
    x = torch.from_numpy(batch(config, size)[0]).permute(0, 3, 1, 2).contiguous()
    model.eval()

    def step():
        with torch.inference_mode():
            return model(x).sum().item()

    return step


def _huggingface(config):
    from transformers import ViTConfig, ViTForImageClassification
    return ViTForImageClassification(ViTConfig(
        hidden_size=config.width, num_hidden_layers=config.depth, num_attention_heads=config.heads,
        intermediate_size=config.mlp_dim, image_size=config.image_size, patch_size=config.patch_size,
        num_labels=config.num_classes, hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.attention_dropout))


class FastEstimators(nn.Module):
    """The torch ViT of FastEstimator's apphub: PyTorch's own encoder."""

    def __init__(self, config):
        super().__init__()
        self.patches = nn.Conv2d(3, config.width, config.patch_size, config.patch_size, bias=False)
        self.token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.positions = nn.Parameter(torch.zeros(1, config.tokens, config.width))
        self.dropout = nn.Dropout(config.dropout)
        layer = nn.TransformerEncoderLayer(config.width, config.heads, config.mlp_dim, config.dropout, "gelu",
                                           batch_first=True, norm_first=config.norm_order == "pre")
        self.encoder = nn.TransformerEncoder(layer, config.depth, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(config.width, 1e-6), nn.Linear(config.width, config.num_classes)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.positions
        return self.head(self.norm(self.encoder(self.dropout(x))[:, 0]))


class PlainBlock(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.pre, self.heads, self.rate = config.norm_order == "pre", config.heads, config.attention_dropout
        self.norm1, self.norm2 = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.qkv, self.proj = nn.Linear(config.width, 3 * config.width), nn.Linear(config.width, config.width)
        self.drop = nn.Dropout(config.dropout)
        self.mlp = nn.Sequential(nn.Linear(config.width, config.mlp_dim), nn.GELU(), nn.Dropout(config.dropout),
                                 nn.Linear(config.mlp_dim, config.width), nn.Dropout(config.dropout))

    def attention(self, x):
        B, N, D = x.shape
        q, k, v = self.qkv(x).view(B, N, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v, dropout_p=self.rate if self.training else 0.0)
        return self.drop(self.proj(x.transpose(1, 2).reshape(B, N, D)))

    def forward(self, x):
        if self.pre:
            x = x + self.attention(self.norm1(x))
            return x + self.mlp(self.norm2(x))
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.mlp(x))


class Plain(nn.Module):
    """A ViT as a good user writes it today."""

    def __init__(self, config):
        super().__init__()
        self.patches = nn.Conv2d(3, config.width, config.patch_size, config.patch_size)
        self.token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.positions = nn.Parameter(torch.zeros(1, config.tokens, config.width))
        self.drop = nn.Dropout(config.dropout)
        self.blocks = nn.Sequential(*(PlainBlock(config) for _ in range(config.depth)))
        self.norm, self.head = nn.LayerNorm(config.width), nn.Linear(config.width, config.num_classes)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1)
        return self.head(self.norm(self.blocks(self.drop(x + self.positions))[:, 0]))
