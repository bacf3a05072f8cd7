"""Frames a second of the phantom: masks alone, and masks with ultrasound.

Run: ``python -m benchmarks.system.phantom``
"""

from benchmarks.harness import Section, compare, figures, main

NUM_FRAMES = 10


def _loop(**options):
    import functools

    import jax

    from cardiojax.data import phantom

    heart = phantom.sample_heart(jax.random.key(0), ejection_fraction=55.0)
    record = jax.jit(functools.partial(phantom.simulate, num_frames=NUM_FRAMES, **options))
    return lambda: jax.block_until_ready(record(jax.random.key(1), heart))


def masks():
    """Contours and exact masks of 224 x 224."""
    import jax
    import jax.numpy as jnp

    from cardiojax.data import phantom
    from cardiojax.data.phantom.motion import move

    heart = phantom.sample_heart(jax.random.key(0), ejection_fraction=55.0)
    volume = jnp.linspace(1, 0, NUM_FRAMES)
    call = jax.jit(lambda h: phantom.rasterize(move(h.contours[1], volume), (224, 224), jnp.full(2, 0.7), h.depth))
    return lambda: jax.block_until_ready(call(heart))


def ge_like():
    """40 000 scatterers, 224 x 224."""
    return _loop()


def philips_like():
    """The same with persistence."""
    from cardiojax.data import phantom

    return _loop(vendor=phantom.VENDORS["philips_like"])


def run(rounds: int = 5) -> Section:
    """Times all three."""
    contenders = {"masks alone": masks, "ge_like": ge_like, "philips_like": philips_like}
    timings = compare(contenders, rounds=rounds)
    lines = ["| | frames/s (median) | ms a frame | first call, s | peak MiB |", "|---|---|---|---|---|"]
    for t in timings.values():
        rate = NUM_FRAMES / t.median
        lines.append(f"| {t.name} | {rate:.0f} | {1e3 / rate:.1f} | {t.first:.1f} | {t.peak_mib:.0f} |")
    return Section(
        title="Phantom: simulated loops of 224 x 224", text="\n".join(lines) + "\n", data={"timings": figures(timings)}
    )


PARTS = {"": run}

if __name__ == "__main__":
    main(__spec__.name, PARTS)
