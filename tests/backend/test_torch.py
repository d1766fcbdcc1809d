"""What PyTorch's Optimizer does to all weights at once, as on a GPU, and to one after the other, as on a CPU."""
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
