"""TensorFlow: ours, FastEstimator's own script, and Hugging Face."""
import fe_compat

tf = fe_compat.legacy_tensorflow()
from tensorflow.keras import layers

from benchmarks.contenders.turns import IN_A_ROW, batch, fe_whole, ours_whole
from tests.convert.apphub_keras import ClsToken, MultiHeadAttention, PositionEmbedding
from vit import memory


def ours(variant, config, size, turns):
    """Ours, bare: a tf.function of one's own."""
    memory.keep_freed()  # as a run of ours does
    turns.repeat(_bare(_ours(config), config, size))


def ours_xla(variant, config, size, turns):
    """Ours, bare, under XLA."""
    memory.keep_freed()
    turns.repeat(_bare(_ours(config), config, size, jit_compile=True))


def whole(variant, config, size, turns):
    """Ours, through FastEstimator's Estimator."""
    ours_whole("tf", config, variant, size, turns)


def whole_compiled(variant, config, size, turns):
    """Ours with --compile, through FastEstimator's Estimator."""
    ours_whole("tf", config, variant, size, turns, compiled=True)


def whole_bf16(variant, config, size, turns):
    """Ours with --precision bf16, through FastEstimator's Estimator."""
    ours_whole("tf", config, variant, size, turns, precision="bf16")


def fe(variant, config, size, turns):
    """FastEstimator's own script, through its Estimator."""
    fe_whole(fastestimators(config), lambda: tf.keras.optimizers.SGD(0.01, momentum=0.9), size, config, False, turns)


def fe_kept(variant, config, size, turns):
    """FastEstimator's own script, through its Estimator, keeping freed memory as ours does."""
    memory.keep_freed()
    fe(variant, config, size, turns)


def huggingface(variant, config, size, turns):
    """Hugging Face's TFViTForImageClassification, bare, in a tf.function."""
    forward, variables = _huggingface(config)
    turns.repeat(_bare(forward, config, size, variables=variables))


def huggingface_kept(variant, config, size, turns):
    """Hugging Face's TFViTForImageClassification, bare, in a tf.function, keeping freed memory as ours does."""
    memory.keep_freed()
    huggingface(variant, config, size, turns)


def ours_1(variant, config, size, turns):
    """Ours, inference of one image, 50 in a row."""
    turns.repeat(_inference(_ours(config), config, 1), IN_A_ROW)


def ours_128(variant, config, size, turns):
    """Ours, inference of 128 images."""
    turns.repeat(_inference(_ours(config), config, 128))


def huggingface_1(variant, config, size, turns):
    """Hugging Face's, inference of one image, 50 in a row."""
    turns.repeat(_inference(_huggingface(config)[0], config, 1), IN_A_ROW)


def huggingface_128(variant, config, size, turns):
    """Hugging Face's, inference of 128 images."""
    turns.repeat(_inference(_huggingface(config)[0], config, 128))


def _ours(config):
    from vit.backend import load_script
    return load_script("tf").ViT(config)


def _huggingface(config):
    """Its forward pass of images [B, S, S, C], and a function to its weights, which are there after the first."""
    from transformers import TFViTForImageClassification, ViTConfig
    model = TFViTForImageClassification(ViTConfig(
        hidden_size=config.width, num_hidden_layers=config.depth, num_attention_heads=config.heads,
        intermediate_size=config.mlp_dim, image_size=config.image_size, patch_size=config.patch_size,
        num_labels=config.num_classes, hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.attention_dropout))

    def forward(x, training=False):
        return model(tf.transpose(x, (0, 3, 1, 2)), training=training).logits

    return forward, lambda: model.trainable_variables


def _bare(model, config, size, jit_compile=None, variables=None):
    images, labels = (tf.constant(value) for value in batch(config, size))
    model(images[:1])
    trained = variables() if variables else model.trainable_variables
    optimizer = tf.keras.optimizers.SGD(0.01, momentum=0.9)

    @tf.function(jit_compile=jit_compile)
    def train(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, model(x, training=True)))
        optimizer.apply_gradients(zip(tape.gradient(loss, trained), trained, strict=True))
        return loss

    optimizer.build(trained)
    return lambda: float(train(images, labels))


def _inference(model, config, size):
    images, forward = tf.constant(batch(config, size)[0]), tf.function(model)
    return lambda: forward(images).numpy()


def fastestimators(config):
    """The TensorFlow ViT of FastEstimator's apphub: Keras' layers, post-norm, ReLU, dropout behind both branches."""
    inputs = layers.Input((config.image_size, config.image_size, 3))
    x = layers.Conv2D(config.width, config.patch_size, config.patch_size, use_bias=False)(inputs)
    x = PositionEmbedding(config.tokens, config.width)(ClsToken(config.width)(layers.Reshape((-1, config.width))(x)))
    x = layers.Dropout(config.dropout)(x)
    for _ in range(config.depth):
        branch = layers.Dropout(config.dropout)(MultiHeadAttention(config.width, config.heads)(x))
        x = layers.LayerNormalization(epsilon=1e-6)(x + branch)
        branch = layers.Dense(config.width)(layers.Dense(config.mlp_dim, activation="relu")(x))
        x = layers.LayerNormalization(epsilon=1e-6)(x + layers.Dropout(config.dropout)(branch))
    return tf.keras.Model(inputs, layers.Dense(config.num_classes)(layers.LayerNormalization(epsilon=1e-6)(x[:, 0])))
