"""A layer's call whose backward pass computes it again.

`tf.recompute_grad` frees nothing in a graph: its optimizer finds that the zero by which the second computation hangs on
the backward pass is a constant, and then that need not wait.
"""
import fe_compat

tf = fe_compat.legacy_tensorflow()


def recomputed(call, x, key):
    """Call a layer on x and a key, or None; of what it computes only x is kept for its gradient.

    A layer that is called eagerly, outside of a `tf.function`, is computed again, but keeps the rest as well.
    """
    @tf.custom_gradient
    def layer(x):
        def gradient(*g, variables=()):
            with tf.control_dependencies(g):
                again, same = tf.identity(x), None if key is None else tf.identity(key)
            with tf.GradientTape() as tape:
                tape.watch([again, *variables])
                y = call(again, same)
            dx, *dw = tape.gradient(y, [again, *variables], g)
            return dx, dw

        return call(x, key), gradient

    return layer(x)
