"""Layers as compiled C++ kernels for XLA's CPU backend; `runtime.build_kernels` compiles them where they are used."""
