"""The forward pass and the train step of a network, in JAX and in PyTorch, as `harness.compare` wants them."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np


def memory_kept(workload: Callable[[], Callable[[], object]]) -> Callable[[], object]:
    """A workload of a process that keeps freed memory, see `cardiojax.runtime.keep_freed_memory`.

    Args:
        workload: Makes the call that is timed.
    """
    from cardiojax import runtime

    runtime.keep_freed_memory()
    return workload()


def jax_call(
    mode: str,
    apply: Callable[[Any, Any], Any],
    params: Any,
    images: Any,
    *,
    loss: Callable[[Any], Any],
    optimizer: Any,
    options: dict[str, str] | None = None,
) -> Callable[[], object]:
    """Compiles one of the two.

    Args:
        mode: ``"forward"`` or ``"train step"``.
        apply: The network.
        params: Its parameters.
        images: A batch.
        loss: Scalar loss of what the network returns.
        optimizer: Of Optax.
        options: Of the compiler for a train step; those of the package if not given.
    """
    import jax
    import optax

    from cardiojax import ops

    if mode == "forward":
        forward = jax.jit(apply)
        return lambda: jax.block_until_ready(forward(params, images))

    def step(state):
        params, moments = state
        gradient = jax.grad(lambda p: loss(apply(p, images)))(params)
        updates, moments = optimizer.update(gradient, moments)
        return optax.apply_updates(params, updates), moments

    options = ops.compiler_options() if options is None else options
    compiled = jax.jit(step, donate_argnums=0, compiler_options=options)
    state = [(params, optimizer.init(params))]

    def call():
        state[0] = jax.block_until_ready(compiled(state[0]))

    return call


def torch_call(
    mode: str,
    variant: str,
    model: Any,
    images: np.ndarray,
    *,
    loss: Callable[[Any], Any],
    optimizer: Callable[..., Any],
    device: str = "cpu",
    dtype: str = "float32",
) -> Callable[[], object]:
    """The same in PyTorch.

    Where ``dtype`` is float32, products on a GPU may use TF32, as those of JAX do.

    Args:
        mode: ``"forward"`` or ``"train step"``.
        variant: ``"eager"``, ``"channels-last"`` or ``"compile"``.
        model: The module.
        images: A batch, channels last.
        loss: Scalar loss of what the network returns.
        optimizer: Makes an optimizer of parameters.
        device: ``"cpu"`` or ``"cuda"``.
        dtype: ``"float32"``, or ``"bfloat16"`` for automatic mixed precision.
    """
    import torch

    torch.set_num_threads(2)
    if device == "cuda":
        torch.set_float32_matmul_precision("high")
    x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(device)
    model = model.to(device)
    mixed = functools.partial(torch.autocast, device, torch.bfloat16, enabled=dtype == "bfloat16")
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    if variant == "channels-last":
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    network = torch.compile(model) if variant == "compile" else model
    if mode == "forward":
        model.eval()

        def forward():
            with torch.inference_mode(), mixed():
                network(x)
            wait()

        return forward
    moments = optimizer(model.parameters())

    def step():
        moments.zero_grad(set_to_none=True)
        with mixed():
            value = loss(network(x))
        value.backward()
        moments.step()
        wait()

    return step
