"""The memory that a training takes at the very least: a run that cannot have it is refused before anything is built."""
from vit import memory
from vit.data import Dataset
from vit.model import summary
from vit.model.config import ViTConfig
from vit.training.job import Job
from vit.training.recipe import Recipe


def check(job: Job, stages: dict[str, Dataset]) -> None:
    """Refuse a run of which a training step cannot fit into the memory that there is.

    Where there may be a GPU, only the host's part counts: the weights and a batch of images.

    Args:
        job: The run.
        stages: The set that each stage trains on, by the stage's name.

    Raises:
        UserError: It cannot; the message says what it would take, what there is, and which option to lower.
    """
    for name, dataset in stages.items():
        config = job.autoencoder(dataset) if name == "mae" else job.config(dataset)
        batch_size = -(-min(job.recipe.batch_size, len(dataset.train)) // job.world.size)  # each worker's
        frozen = job.recipe.freeze_encoder and name == "finetune"
        can = job.backend != "ms"  # recompute blocks
        asked = can and job.options.activation_checkpointing
        there = memory.available()
        if memory.has_accelerator() and job.options.device_target != "CPU":
            needed, least = (host_bytes(config, count) for count in (batch_size, 1))
            recomputed = needed
        else:
            needed, least, recomputed = (
                step_bytes(config, job.recipe, count, frozen, job.backend == "torch", again)
                for count, again in ((batch_size, asked), (1, asked), (batch_size, can)))
        option = "--batch_size" if there is None or least <= there else "--image_size or --variant"
        option += " or mae_decoder_width" * (name == "mae")
        if there is not None and recomputed <= there:
            option += ", or --activation_checkpointing,"
        memory.check_room(needed, f"{name}: a training step of {batch_size} images of {config.image_size} x "
                          f"{config.image_size}", f"a smaller {option} needs less")


def host_bytes(config: ViTConfig, batch_size: int) -> int:
    """Give the bytes that a model's weights and a batch of its images take, in float32."""
    return 4 * (summary.parameters(config) + batch_size * config.image_size**2 * config.in_channels)


def step_bytes(config: ViTConfig, recipe: Recipe, batch_size: int, frozen: bool = False,
               fused_attention: bool = False, recomputed: bool = False) -> int:
    """Give the bytes that a training step takes at the very least, on a CPU.

    It is deliberately low, so that nothing that could run is refused: what any framework must hold at once, even one
    that computes again what is cheap. With P parameters and, for each of B images, N tokens of width D, an MLP of
    width M and H heads:

        weights and moments     P * (1 + 1 for SGD and Muon, or 2 for Adam and AdamW + 1 with a moving average)
        images                  B * S * S * C
        of each block           B * N * (6 * D + M)     the inputs of both norms, q, k and v, the attention's result,
                                                        the MLP's hidden values
                                B * H * N * N           the attention weights, where they are not fused away
        gradients               P                       if that is more than all blocks: it comes when they are gone

    Each is of 4 bytes; with mixed precision a block's values are of 2. Where blocks are recomputed, all but one hold
    their input alone, B * N * D; those of a masked autoencoder's decoder, which see all patches, are not recomputed.
    Under a frozen encoder there are weights, images and one block, of which nothing is kept. What the framework,
    FastEstimator and the images' set take is not in it.

    Args:
        config: The model.
        recipe: Its training.
        batch_size: Images of a step.
        frozen: Whether the head alone is trained.
        fused_attention: Whether the framework computes attention without keeping its weights, where it has no dropout.
        recomputed: Whether the backward pass computes each block again.
    """
    B, N, D, P = batch_size, config.trained_tokens, config.width, summary.parameters(config)
    block = B * _block_values(config, N, fused_attention)
    others = (config.depth - 1) * (B * N * D if recomputed else block)
    if config.decoder_depth:
        others += config.decoder_depth * B * _block_values(config.decoder, config.tokens, fused_attention)
    width = 4 if recipe.precision == "fp32" else 2
    block, others = width * block, width * others
    if frozen:
        return host_bytes(config, B) + block
    moments = (1 if recipe.optimizer in ("sgd", "muon") else 2) + (recipe.ema_decay > 0)
    return host_bytes(config, B) + 4 * P * moments + max(block + others, 4 * P)


def _block_values(config: ViTConfig, tokens: int, fused_attention: bool) -> int:
    """Values that a block keeps of an image for the backward pass."""
    attention = config.heads * tokens**2 if config.attention_dropout or not fused_attention else 0
    return tokens * (6 * config.width + config.mlp_dim) + attention
