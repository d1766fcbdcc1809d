"""The TensorFlow ViT of FastEstimator's apphub, as far as its files and its logits go: Keras layers, made in its order.

Source: FastEstimator `apphub/image_classification/vit/vit_tf.py`: post-norm, ReLU, LayerNorm epsilon 1e-6.
"""
from fe_compat import legacy_tensorflow

tf = legacy_tensorflow()
from tensorflow.keras import layers


class MultiHeadAttention(layers.Layer):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.width = heads, width
        self.wq, self.wk, self.wv, self.dense = (layers.Dense(width) for _ in range(4))

    def call(self, x):
        q, k, v = (tf.transpose(tf.reshape(w(x), (-1, x.shape[1], self.heads, self.width // self.heads)), (0, 2, 1, 3))
                   for w in (self.wq, self.wk, self.wv))
        scores = tf.nn.softmax(tf.matmul(q, k, transpose_b=True) / (self.width // self.heads)**0.5)
        return self.dense(tf.reshape(tf.transpose(tf.matmul(scores, v), (0, 2, 1, 3)), (-1, x.shape[1], self.width)))


class EncoderLayer(layers.Layer):
    def __init__(self, width, heads, mlp):
        super().__init__()
        self.mha = MultiHeadAttention(width, heads)
        self.ffn = tf.keras.Sequential([layers.Dense(mlp, activation="relu"), layers.Dense(width)])
        self.layernorm1, self.layernorm2 = (layers.LayerNormalization(epsilon=1e-6) for _ in range(2))

    def call(self, x):
        x = self.layernorm1(x + self.mha(x))
        return self.layernorm2(x + self.ffn(x))


class Encoder(layers.Layer):
    def __init__(self, depth, width, heads, mlp):
        super().__init__()
        self.enc_layers = [EncoderLayer(width, heads, mlp) for _ in range(depth)]

    def call(self, x):
        for layer in self.enc_layers:
            x = layer(x)
        return x


class ClsToken(layers.Layer):
    def __init__(self, width):
        super().__init__()
        self.cls_token = tf.Variable(tf.random.normal((1, 1, width)), name="cls_token")

    def call(self, x):
        return tf.concat([tf.repeat(self.cls_token, tf.shape(x)[0], axis=0), x], axis=1)


class PositionEmbedding(layers.Layer):
    def __init__(self, count, width):
        super().__init__()
        self.position_embedding = tf.Variable(tf.random.normal((1, count, width)), name="position_embedding")

    def call(self, x):
        return x + self.position_embedding


def build(size=32, patch=8, width=48, depth=2, heads=6, mlp=80, classes=7):
    """The backbone, and the whole model."""
    inputs = layers.Input((size, size, 3))
    x = layers.Conv2D(width, patch, patch, use_bias=False)(inputs)
    x = layers.Reshape((-1, width))(x)
    x = PositionEmbedding((size // patch)**2 + 1, width)(ClsToken(width)(x))
    x = Encoder(depth, width, heads, mlp)(x)
    backbone = tf.keras.Model(inputs, layers.LayerNormalization(epsilon=1e-6)(x[:, 0]))
    inputs = layers.Input((size, size, 3))
    return backbone, tf.keras.Model(inputs, layers.Dense(classes)(backbone(inputs)))
