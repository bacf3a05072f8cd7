"""Strain of expert masks: the wall shortens where the long axis does."""

import jax
import jax.numpy as jnp
import numpy as np

from cardiojax import anatomy, clinical


def test_only_ventricles_that_hardly_shorten_have_little_strain(data_dir):
    arrays = np.load(data_dir / "camus_224" / "camus224_val.npz")
    masks, spacing = jnp.asarray(arrays["label"], jnp.int32), jnp.asarray(arrays["spacing_rc_mm"])

    @jax.jit
    def lengths(masks, spacing):
        lines = (f(masks, spacing, batch_size=8).length for f in (anatomy.midline, clinical.endocardial_line))
        return *lines, clinical.lv_length(masks, spacing)

    measured = dict(
        zip(
            zip(arrays["patient"], arrays["view"], arrays["phase"], strict=True),
            np.stack(lengths(masks, spacing)).T,
            strict=True,
        )
    )
    views = sorted({key[:2] for key in measured})
    assert len(views) == 100
    mid_wall, endocardial, axis = (
        100 * (np.stack([measured[*view, "ES"] / measured[*view, "ED"] for view in views]) - 1)
    ).T
    assert (mid_wall > -5).sum() == 5
    assert axis[mid_wall > -5].min() > -5
    assert axis[endocardial > -5].min() > -5
    # the middle of the wall shortens less than its inner border, and both about as much as the axis
    assert (endocardial - mid_wall).mean() < -2
    assert np.corrcoef(mid_wall, axis)[0, 1] > 0.85
    assert np.corrcoef(endocardial, axis)[0, 1] > 0.85
