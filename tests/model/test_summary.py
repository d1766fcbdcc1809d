"""The variants in numbers, and the command that prints them."""
import pytest

from vit.cli.commands import main
from vit.model import summary
from vit.model.config import VARIANTS, ViTConfig


@pytest.mark.parametrize(("variant", "published"), {  # multiply-adds in 10^9 that timm and torchvision publish
    "vit_ti_16_224": 1.26, "vit_s_16_224": 4.61, "vit_b_16_224": 17.58, "vit_b_32_224": 4.41, "vit_b_16_384": 55.5,
    "vit_l_16_224": 61.6, "vit_l_32_224": 15.4, "vit_l_16_384": 191.2, "vit_b_32_384": 13.1,
}.items())
def test_flops_are_twice_the_published_multiply_adds(variant, published):
    assert summary.flops(VARIANTS[variant]) / 2e9 == pytest.approx(published, rel=0.01)


def test_flops_of_a_model_that_is_counted_by_hand():
    config = ViTConfig(image_size=2, patch_size=1, in_channels=1, width=2, depth=1, heads=1, mlp_dim=3, num_classes=4)
    patches, qkv, scores, weighted, proj, mlp, head = 4 * 2, 5 * 12, 25 * 2, 25 * 2, 5 * 4, 2 * 5 * 6, 8
    assert summary.flops(config) == 2 * (patches + qkv + scores + weighted + proj + mlp + head)


def test_list_prints_every_variant(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines[1:1 + len(VARIANTS)]}
    assert set(rows) == set(VARIANTS)
    assert "86,567,656" in rows["vit_b_16_224"] and "35.13" in rows["vit_b_16_224"]
    assert "224 x 224 x 3" in rows["vit_b_16_224"]
    assert "two for each multiplication and addition" in lines[-1]


@pytest.mark.parametrize(("columns", "last"), [(80, "classes"), (60, "patch"), (40, "GFLOPs")])
def test_list_fits_the_window(columns, last):
    lines = summary.table(columns).splitlines()
    assert lines[0].split()[-1] == last and max(map(len, lines)) <= columns and len(lines) > len(VARIANTS) + 2


def test_a_model_is_described_with_the_variants_of_its_size():
    line = summary.describe(VARIANTS["vit_s_16_224"].replace(num_classes=10))
    assert "(the size of vit_s_16_224)" in line and "12" in line and "10 classes" in line
    assert "size of" not in summary.describe(ViTConfig(width=40, heads=5))
