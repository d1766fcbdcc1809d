"""What the processor can do."""
from pathlib import Path

# Linux' words for products of bfloat16: AVX-512's, AMX's, and Arm's.
_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}


def multiplies_bfloat16(root: Path = Path("/")) -> bool:
    """Tell whether the processor multiplies matrices of bfloat16; else they are emulated, slower than float32.

    Args:
        root: Where `proc` is.
    """
    try:
        lines = (root / "proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return not _BFLOAT16.isdisjoint(flags.split())
