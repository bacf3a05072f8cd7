"""The contract of the public functions: signature and docstring of all, and eager = jit = vmap of those on arrays."""

import importlib
import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

PACKAGES = ("ops", "anatomy", "clinical", "latent", "losses", "metrics", "temporal", "uncertainty", "adaptation")
#: Parameters with a default that may be given by position: they belong to the arrays before them.
POSITIONAL = {
    *("spacing", "bias", "scale", "structures", "thresholds", "criteria", "low", "high", "level", "bandwidths", "k"),
    *("epsilon", "negative_slope"),
}


def public_functions() -> dict:
    functions = {}
    for package in PACKAGES:
        module = importlib.import_module(f"cardiojax.{package}")
        for name, value in vars(module).items():
            is_ours = callable(value) and not inspect.isclass(value) and not name.startswith("_")
            if is_ours and getattr(value, "__module__", "").startswith("cardiojax"):
                functions[f"{package}.{name}"] = value
    return functions


FUNCTIONS = public_functions()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signature_and_docstring(name):
    signature, doc = inspect.signature(FUNCTIONS[name]), FUNCTIONS[name].__doc__ or ""
    parameters = list(signature.parameters.values())
    summary = doc.split("\n", 1)[0]
    assert summary.endswith("."), "the first line of the docstring is one sentence"
    for parameter in parameters:
        assert f"{parameter.name}:" in doc, f"{parameter.name} is not documented"
        has_default = parameter.default is not inspect.Parameter.empty
        if has_default and parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            assert parameter.name in POSITIONAL, f"{parameter.name} is not keyword-only"
    if signature.return_annotation is not None:
        assert "Returns:" in doc or "Yields:" in doc
    if "key" in signature.parameters and name != "ops.attention":
        assert parameters[0].name == "key" or signature.parameters["key"].kind is inspect.Parameter.KEYWORD_ONLY


_RNG = np.random.default_rng(0)
NUM, SIZE = 2, 16


def _normal(*shape: int) -> jax.Array:
    return jnp.asarray(_RNG.normal(size=(NUM, *shape)), jnp.float32)


def _uniform(*shape: int) -> jax.Array:
    return jnp.asarray(_RNG.uniform(0.05, 0.95, size=(NUM, *shape)), jnp.float32)


_ROWS, _COLS = np.mgrid[:SIZE, :SIZE] / SIZE - 0.5
_CAVITY = (np.hypot(_ROWS, 1.6 * _COLS) < 0.25) & (_ROWS < 0.1)
_WALL = (np.hypot(_ROWS, 1.6 * _COLS) < 0.42) & (_ROWS < 0.1) & ~_CAVITY
_ATRIUM = (np.hypot(_ROWS - 0.25, _COLS) < 0.17) & ~_CAVITY & ~_WALL
LABELS = jnp.asarray(np.stack([np.select([_CAVITY, _WALL, _ATRIUM], [1, 2, 3], 0)] * NUM), jnp.int32)
OTHER = jnp.roll(LABELS, 1, -1)
MASK, OTHER_MASK = LABELS == 1, OTHER == 1
LOGITS, LOGITS_2 = _normal(SIZE, SIZE, 4), _normal(SIZE, SIZE, 4)
PROBS, CONFIDENCE = jax.nn.softmax(LOGITS), _uniform(SIZE, SIZE)
VECTOR, VECTOR_2 = _uniform(9), _uniform(9)
BOX = jnp.array([1, 5, 2, 7])
CURVE = jnp.asarray(np.stack([1 + np.cos(np.arange(24) * 0.5 + shift) for shift in (0.0, 1.0)]), jnp.float32)

#: Arguments with one more leading axis than a single call has; vmap maps over that axis.
CASES = {
    "ops.conv_transpose_2x2": lambda f: (lambda x: f(x, jnp.ones((2, 2, 3, 2))), (_normal(4, 4, 3),)),
    "ops.contour": lambda f: (f, (MASK,)),
    "ops.convex_hull": lambda f: (f, (MASK,)),
    "ops.depth_to_space": lambda f: (lambda x: f(x, 2), (_normal(4, 4, 8),)),
    "ops.dilate": lambda f: (f, (MASK,)),
    "ops.distance_transform": lambda f: (f, (MASK,)),
    "ops.erode": lambda f: (f, (MASK,)),
    "ops.fill_holes": lambda f: (f, (MASK,)),
    "ops.pixel_positions": lambda f: (lambda mask: f(mask, capacity=7), (MASK,)),
    "ops.resample_from_box": lambda f: (lambda x: f(x, BOX, height=3, width=7), (_normal(6, 9, 2),)),
    "ops.resample_to_box": lambda f: (lambda x: f(x, BOX, height=9, width=8), (_normal(3, 4, 2),)),
    "ops.label": lambda f: (f, (MASK,)),
    "ops.largest_component": lambda f: (f, (MASK,)),
    "ops.lowest_pixel": lambda f: (f, (MASK,)),
    "ops.max_pool": lambda f: (f, (_normal(4, 4, 3),)),
    "ops.perimeter": lambda f: (f, (MASK,)),
    "ops.resize_argmax": lambda f: (lambda x: f(x, height=9, width=11), (_normal(4, 4, 3),)),
    "ops.resize_argmax_to_box": lambda f: (lambda x: f(x, BOX, height=9, width=11), (_normal(4, 4, 3),)),
    "ops.space_to_depth": lambda f: (lambda x: f(x, 2), (_normal(4, 4, 3),)),
    "ops.upsample_2x": lambda f: (f, (_normal(4, 4, 3),)),
    "anatomy.attributes": lambda f: (f, (LABELS,)),
    "anatomy.landmarks": lambda f: (f, (LABELS,)),
    "anatomy.separate_atrium": lambda f: (lambda labels: f(labels, max_contact=0.37), (LABELS,)),
    "anatomy.soft_attributes": lambda f: (f, (PROBS,)),
    "clinical.area_length_volume": lambda f: (f, (VECTOR, VECTOR_2)),
    "clinical.area_length_mass": lambda f: (f, (VECTOR + 1, VECTOR_2, VECTOR)),
    "clinical.detect_beats": lambda f: (f, (CURVE,)),
    "clinical.detect_phases": lambda f: (f, (CURVE,)),
    "clinical.disks": lambda f: (lambda labels: f(labels, jnp.ones(2)), (LABELS,)),
    "clinical.ejection_fraction": lambda f: (f, (VECTOR + 1, VECTOR_2)),
    "clinical.area_change": lambda f: (f, (VECTOR + 1, VECTOR_2)),
    "clinical.is_length_in_range": lambda f: (f, (100 * VECTOR,)),
    "clinical.line_length": lambda f: (f, (_normal(7, 2),)),
    "clinical.lv_area": lambda f: (lambda labels: f(labels, jnp.ones(2)), (LABELS,)),
    "clinical.lv_length": lambda f: (lambda labels: f(labels, jnp.ones(2)), (LABELS,)),
    "clinical.myocardial_area": lambda f: (lambda labels: f(labels, jnp.ones(2)), (LABELS,)),
    "clinical.smooth_curve": lambda f: (f, (CURVE,)),
    "latent.interpolate": lambda f: (lambda a, b: f(a, b, num=3), (_normal(4), _normal(4))),
    "losses.binary_cross_entropy_loss": lambda f: (f, (LOGITS[..., 0][:, None], MASK[:, None])),
    "losses.cross_entropy_loss": lambda f: (f, (LOGITS[:, None], LABELS[:, None])),
    "losses.dice_loss": lambda f: (f, (LOGITS[:, None], LABELS[:, None])),
    "losses.entropy_loss": lambda f: (f, (LOGITS[:, None],)),
    "losses.merge_absent": lambda f: (f, (LOGITS[:, None], jnp.ones((NUM, 1, 4), bool).at[0, 0, 2].set(False))),
    "losses.heteroscedastic_loss": lambda f: (
        lambda a, b, labels: f(jax.random.key(0), a, b, labels, num_samples=2),
        (LOGITS[:, None], PROBS[:, None], LABELS[:, None]),
    ),
    "losses.kl_loss": lambda f: (f, (_normal(3, 4), _normal(3, 4))),
    "metrics.mutual_information": lambda f: (f, (CONFIDENCE, MASK)),
    "metrics.average_symmetric_surface_distance": lambda f: (lambda a, b: f(a, b, jnp.ones(2)), (MASK, OTHER_MASK)),
    "metrics.dice": lambda f: (f, (MASK, OTHER_MASK)),
    "metrics.dice_per_class": lambda f: (f, (LABELS, OTHER)),
    "metrics.hausdorff": lambda f: (lambda a, b: f(a, b, jnp.ones(2)), (MASK, OTHER_MASK)),
    "metrics.jaccard": lambda f: (f, (MASK, OTHER_MASK)),
    "metrics.mean_absolute_distance": lambda f: (lambda a, b: f(a, b, jnp.ones(2)), (MASK, OTHER_MASK)),
    "temporal.smooth": lambda f: (lambda x: f(x, jnp.array(2.0)), (_normal(9),)),
    "uncertainty.entropy": lambda f: (f, (PROBS,)),
    "adaptation.divergence": lambda f: (f, (LOGITS, LOGITS_2)),
    "adaptation.log_prob": lambda f: (f, (LOGITS, LABELS)),
}


COMPILATIONS: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, _, **__: COMPILATIONS.append(event) if event.endswith("backend_compile_duration") else None
)


@pytest.mark.parametrize("name", CASES)
def test_eager_jitted_and_vmapped_agree_with_one_trace(name):
    function, arguments = CASES[name](FUNCTIONS[name])
    eager = [function(*(a[i] for a in arguments)) for i in range(NUM)]
    COMPILATIONS.clear()
    jax.block_until_ready(function(*(a[0] for a in arguments)))
    assert not COMPILATIONS, "a second eager call compiles again: a function with loops carries its own jit"
    expected = jax.tree.map(lambda *parts: np.stack([np.asarray(p) for p in parts]), *eager)
    chex.clear_trace_counter()
    traced = jax.jit(chex.assert_max_traces(lambda *args: function(*args), n=1))
    for i in range(NUM):
        chex.assert_trees_all_close(traced(*(a[i] for a in arguments)), eager[i], rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(jax.vmap(function)(*arguments), expected, rtol=1e-4, atol=1e-5)
