"""Devices and compiled programs of this process."""

from cardiojax.runtime.aot import CompiledFunction as CompiledFunction
from cardiojax.runtime.aot import set_cache_folder as set_cache_folder
from cardiojax.runtime.batching import SharedBatches as SharedBatches
from cardiojax.runtime.batching import map_full_batches as map_full_batches
from cardiojax.runtime.devices import use_every_core as use_every_core
from cardiojax.runtime.kernels import build_kernels as build_kernels
from cardiojax.runtime.memory import keep_freed_memory as keep_freed_memory
from cardiojax.runtime.threads import thread_pool as thread_pool
