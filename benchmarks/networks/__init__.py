"""Networks: train steps, forward passes and their building blocks."""
