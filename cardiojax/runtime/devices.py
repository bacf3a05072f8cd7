"""The cores of a host as devices."""

import contextlib
import os

import jax

_FLAG = "xla_force_host_platform_device_count"


def use_every_core() -> None:
    """Makes every core a device of its own, for work that is split over devices.

    XLA runs most of a program over masks on one core. Without effect once JAX has started, or where the number of
    devices was chosen already.
    """
    if jax.config.values["jax_num_cpu_devices"] == -1 and _FLAG not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
