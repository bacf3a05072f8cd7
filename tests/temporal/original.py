"""The published smoothing, written from its formulas: gradient descent with momentum and a bisection of the weight."""

import numpy as np


def gradient_descent(series, weight, *, max_steps=10_000):
    value, velocity = series.copy(), np.zeros_like(series)
    for _ in range(max_steps):
        padded = np.pad(value, 1, mode="edge")
        neighbours = (padded[:-2] + padded[2:]) / 2
        velocity = 0.9 * velocity + 0.1 * ((value - series) + weight * (value - neighbours))
        value = value - 0.01 * velocity
        if np.linalg.norm(0.01 * velocity) <= np.finfo(np.float32).eps:
            break
    return value


def indicator(series, bounds):
    scaled = (series - bounds[0]) / (bounds[1] - bounds[0])
    result = np.zeros_like(scaled)
    result[1:-1] = scaled[1:-1] - (scaled[:-2] + scaled[2:]) / 2
    return result


def bisection(series, bounds, threshold, solve=gradient_descent):
    low, high = 0.0, 128.0
    for _ in range(5):
        middle = (low + high) / 2
        if (np.abs(indicator(solve(series, middle), bounds)) > threshold).any():
            low = middle
        else:
            high = middle
    return solve(series, high), high
