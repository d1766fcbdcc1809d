"""What PyTorch does in one way on a GPU and in another on a CPU: updates of all weights at once, and attention."""
import pytest

from vit.training.recipe import Recipe

pytestmark = pytest.mark.backend("torch")
RECIPES = {"sgd": {}, "nesterov": {"nesterov": True}, "adam": {"optimizer": "adam"}, "adamw": {"optimizer": "adamw"},
           "centralized": {"gradient_centralization": True},
           "muon": {"optimizer": "muon"}}


@pytest.mark.parametrize("recipe", RECIPES)
def test_all_weights_at_once_get_the_same_bits(recipe):
    import torch

    from vit.backend.torch import Optimizer
    generator = torch.Generator().manual_seed(0)
    start = {"norm.weight": torch.randn(5, generator=generator),
             "head.weight": torch.randn(7, 5, generator=generator),
             "head.bias": torch.randn(7, generator=generator)}
    if recipe == "muon":  # it takes no weight that is AdamW's beside its own
        start = {"blocks.0.attn.qkv.weight": torch.randn(15, 5, generator=generator),
                 "blocks.0.mlp.fc1.weight": torch.randn(7, 5, generator=generator),
                 "blocks.0.mlp.fc2.weight": torch.randn(5, 7, generator=generator)}
    recipe = Recipe(weight_decay=0.1, **RECIPES[recipe])
    changes = []
    for count in (1, 3):
        weights = {name: torch.nn.Parameter(value.clone()) for name, value in start.items()}
        optimizer = Optimizer(weights, recipe, 1)
        parts = list(zip(weights.values(), (0.0, 0.1, 0.0), optimizer.centralized, optimizer.matrices, strict=True))
        found = []
        for t in (1, 2):
            for first in range(0, 3, count):
                w, decay, centralized, matrices = zip(*parts[first:first + count], strict=True)
                moments = [[optimizer.state[one][key] for one in w] for key in ("moment1", "moment2")]
                with torch.no_grad():
                    g = [one * t + 1 for one in w]
                    found += optimizer.change(w, g, decay, centralized, matrices, *moments, t=t)
        changes.append(found)
    assert len(changes[0]) == len(changes[1]) == 6
    assert all(torch.equal(one, other) for one, other in zip(*changes, strict=True))


def test_a_step_as_on_a_gpu_has_the_same_bits_with_muon_beside_adamw(monkeypatch):
    import torch

    from vit.backend import torch as backend

    class OnGpu(torch.Tensor):
        is_cuda = True

    def norm_on_gpu(gradients, clip_norm, clip=backend.clip):
        gradients, norm = clip(gradients, clip_norm)
        return gradients, norm.as_subclass(OnGpu)

    generator = torch.Generator().manual_seed(0)
    shapes = {"pos_embed": (1, 4, 6), "blocks.0.attn.qkv.weight": (18, 6), "blocks.0.attn.qkv.bias": (18,),
              "blocks.0.mlp.fc1.weight": (9, 6), "head.weight": (3, 6)}
    start = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    calls, change = [], backend.Optimizer.change
    monkeypatch.setattr(backend.Optimizer, "change", lambda self, w, *rest, **t: calls.append(len(w)) or change(
        self, w, *rest, **t))
    ends = []
    for clip in (backend.clip, norm_on_gpu):
        monkeypatch.setattr(backend, "clip", clip)
        weights = {name: torch.nn.Parameter(value.clone()) for name, value in start.items()}
        optimizer = backend.Optimizer(weights, Recipe(optimizer="muon", weight_decay=0.1, layer_decay=0.5), 1)
        for _ in range(2):
            for w in weights.values():
                w.grad = torch.sin(w.detach())
            optimizer.step()
        ends.append(weights)
    assert calls == [1] * 10 + [2, 3] * 2  # Muon's together, then AdamW's
    assert all(torch.equal(ends[0][name], ends[1][name]) and not torch.equal(ends[0][name], start[name])
               for name in start)


def test_a_cpu_rounds_attentions_factors_and_computes_in_float32():
    import torch
    import torch.nn.functional as F

    from vit.backend.torch import attention
    q, k, v = torch.randn(3, 2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    found = attention(q, k, v, torch.bfloat16)
    rounded = [t.bfloat16().float() for t in (q, k, v)]
    assert found.dtype == torch.float32
    assert torch.equal(found, F.scaled_dot_product_attention(*rounded))
    assert not torch.equal(found, F.scaled_dot_product_attention(q, k, v))
    assert not torch.equal(found, F.scaled_dot_product_attention(*(t.bfloat16() for t in (q, k, v))).float())
    assert torch.equal(attention(q, k, v, torch.float32), F.scaled_dot_product_attention(q, k, v))
