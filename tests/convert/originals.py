"""Other projects' torch models that are not installed here, rebuilt from torch's own layers under their names.

Sources: torchvision `models/vision_transformer.py`, FastEstimator `apphub/image_classification/vit/vit_torch.py`, MAE
`models_vit.py` (on timm 0.3.2's blocks).
"""
import torch
from torch import nn


class Torchvision(nn.Module):
    """torchvision's ViT: pre-norm, torch's MultiheadAttention, exact GELU, epsilon 1e-6."""

    def __init__(self, size=32, patch=8, width=48, depth=2, heads=6, mlp=80, classes=7, pre_logits=None):
        super().__init__()
        self.conv_proj = nn.Conv2d(3, width, patch, patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.encoder = nn.Module()
        self.encoder.pos_embedding = nn.Parameter(torch.zeros(1, (size // patch)**2 + 1, width))
        self.encoder.layers = nn.Module()
        self.depth = depth
        for i in range(depth):
            layer = nn.Module()
            layer.ln_1, layer.ln_2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
            layer.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
            layer.mlp = nn.Sequential(nn.Linear(width, mlp), nn.GELU(), nn.Dropout(0), nn.Linear(mlp, width))
            setattr(self.encoder.layers, f"encoder_layer_{i}", layer)
        self.encoder.ln = nn.LayerNorm(width, eps=1e-6)
        self.heads = nn.Module()
        if pre_logits:
            self.heads.pre_logits = nn.Linear(width, pre_logits)
        self.heads.head = nn.Linear(width, classes)

    def forward(self, x):
        x = self.conv_proj(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], 1) + self.encoder.pos_embedding
        for i in range(self.depth):
            layer = getattr(self.encoder.layers, f"encoder_layer_{i}")
            y = layer.ln_1(x)
            x = x + layer.self_attention(y, y, y, need_weights=False)[0]
            x = x + layer.mlp(layer.ln_2(x))
        return self.heads.head(self.encoder.ln(x)[:, 0])


class Apphub(nn.Module):
    """The torch ViT of FastEstimator's apphub: torch's own post-norm nn.TransformerEncoder."""

    def __init__(self, size=32, patch=8, width=48, depth=2, heads=6, mlp=80, classes=7):
        super().__init__()
        self.vit_encoder = nn.Module()
        embedding = self.vit_encoder.embedding = nn.Module()
        embedding.patch_embedding = nn.Conv2d(3, width, patch, patch, bias=False)
        embedding.position_embedding = nn.Parameter(torch.zeros(1, (size // patch)**2 + 1, width))
        embedding.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        layer = nn.TransformerEncoderLayer(width, heads, mlp, dropout=0.1, activation="gelu")
        self.vit_encoder.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.vit_encoder.layernorm = nn.LayerNorm(width, eps=1e-6)
        self.linear_classifier = nn.Linear(width, classes)

    def forward(self, x):
        embedding = self.vit_encoder.embedding
        x = embedding.patch_embedding(x).flatten(2).transpose(1, 2)
        x = torch.cat([embedding.cls_token.expand(len(x), -1, -1), x], 1) + embedding.position_embedding
        x = self.vit_encoder.encoder(x.transpose(0, 1))
        return self.linear_classifier(self.vit_encoder.layernorm(x[0]))


class MaeFinetuned(nn.Module):
    """MAE's ViT as it is finetuned, with `global_pool`: the mean of the patch tokens, then a LayerNorm (fc_norm)."""

    def __init__(self, size=32, patch=8, width=48, depth=2, heads=6, mlp=80, classes=7):
        super().__init__()
        self.heads = heads
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, (size // patch)**2 + 1, width))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, patch, patch)
        self.blocks = nn.ModuleList()
        for _ in range(depth):
            block = nn.Module()
            block.norm1, block.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
            block.attn, block.mlp = nn.Module(), nn.Module()
            block.attn.qkv, block.attn.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
            block.mlp.fc1, block.mlp.fc2 = nn.Linear(width, mlp), nn.Linear(mlp, width)
            self.blocks.append(block)
        self.fc_norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        x = self.patch_embed.proj(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        for block in self.blocks:
            q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
                       for part in block.attn.qkv(block.norm1(x)).chunk(3, dim=-1))
            scores = (q @ k.transpose(-2, -1) / q.shape[-1]**0.5).softmax(dim=-1)
            x = x + block.attn.proj((scores @ v).transpose(1, 2).flatten(2))
            x = x + block.mlp.fc2(nn.functional.gelu(block.mlp.fc1(block.norm2(x))))
        return self.head(self.fc_norm(x[:, 1:].mean(dim=1)))
