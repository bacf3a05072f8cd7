"""The criteria on windows of images: one compiled function for images of all sizes."""

from collections.abc import Mapping

from jaxtyping import Array, Bool, Int

from cardiojax.anatomy import regions
from cardiojax.anatomy.check import Report, apply_limits, values_in_domain
from cardiojax.anatomy.criteria import CAMUS, Thresholds, for_view, limits
from cardiojax.anatomy.violations import pixels_in_domain


def check_window(
    labels: Int[Array, "n h w"],
    image: Int[Array, " 4"],
    *,
    thresholds: Thresholds | Mapping[str, Thresholds] = CAMUS,
    view: str | None = None,
) -> Report:
    """Evaluates the 12 criteria of hearts that are cut out of their images, or whose images are padded.

    The values are those of `check` on the whole image if all beyond the window is background, and if the window has a
    row or column of background around the heart wherever it does not end with the image. Memory: ``n * h * w * 20``
    bytes.

    Args:
        labels: Windows of label maps.
        image: First row, first column, height and width of the image in pixels of the window. It may be traced: images
            of different sizes share one compiled function. At most 2**20 pixels.
        thresholds: As in `check`.
        view: As in `check`.

    Returns:
        The report.

    Example:
        >>> import jax.numpy as jnp
        >>> labels = jnp.zeros((1, 32, 32), int).at[0, 4:9, 4:9].set(1).at[0, 6, 6].set(0)
        >>> report = check_window(labels, jnp.array([2, 2, 400, 600]))
        >>> float(report.values[0, 0])
        1.0
    """
    height, width = labels.shape[-2:]
    domain = regions.window_domain(height, width, image)
    values = values_in_domain(labels, domain, "paper", len(labels))
    return apply_limits(values, *limits(for_view(thresholds, view)))


def pixels_of_window(labels: Int[Array, "n h w"], image: Int[Array, " 4"]) -> Bool[Array, "n 12 h w"]:
    """The pixels that each criterion counts in a window, as `violating_pixels` does for those criteria that fail.

    Args:
        labels: As in `check_window`.
        image: As in `check_window`.

    Returns:
        A mask for each criterion, whether it passes or not.
    """
    height, width = labels.shape[-2:]
    return pixels_in_domain(labels, regions.window_domain(height, width, image))
