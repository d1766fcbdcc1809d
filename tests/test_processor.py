"""Which processors multiply bfloat16."""
import pytest

from vit import processor


@pytest.mark.parametrize(("text", "real"), [
    ("processor : 0\nflags\t\t: fpu avx2 avx512f avx512_bf16\n\nprocessor : 1\n", True),
    ("flags : fpu amx_bf16 amx_tile\n", True), ("Features : fp asimd bf16 i8mm\n", True),
    ("flags : fpu avx2 avx512f\nbugs : avx512_bf16\n", False), ("flags : fpu bf16_not\n", False), ("", False)])
def test_its_flags_say_so(tmp_path, text, real):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(text)
    assert processor.multiplies_bfloat16(tmp_path) is real


def test_a_system_without_that_file_does_not(tmp_path):
    assert processor.multiplies_bfloat16(tmp_path) is False
