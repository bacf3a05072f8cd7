"""The table of the adaptation, made in two steps of everything on drawn squares."""

import numpy as np
import pytest

from cardiojax import adaptation, recipes
from experiments.rl4seg2024 import domains as domains_module
from experiments.rl4seg2024 import table as rl4seg2024
from experiments.rl4seg2024.domains import DomainConfig, Domains, Frames
from experiments.rl4seg2024.networks import Config

SIDE = 16


@pytest.fixture
def domains():
    """Three structures, one below the other, bright on dark."""
    labels = np.zeros((20, 2 * SIDE, 2 * SIDE), np.uint8)
    for i in range(20):
        for k in (1, 2, 3):
            labels[i, 8 * k - 4 : 8 * k + 4, 4 + i % 5 : 24 + i % 5] = k
    images = (labels[:, ::2, ::2, None] / 4 + 0.1).astype(np.float32)
    frames = Frames(images, labels, np.ones((20, 2), np.float32))
    return Domains(frames, frames._replace(images=0.7 * images), frames._replace(images=0.7 * images))


def test_every_method_gets_a_row(domains, monkeypatch, tmp_path):
    monkeypatch.setattr(rl4seg2024, "load_domains", lambda config, folder: domains)
    monkeypatch.setattr(
        rl4seg2024,
        "make_guarantee",
        lambda images: (
            lambda masks: adaptation.CorrectedBatch(masks, np.arange(len(masks)) < 10, np.ones(len(masks), bool))
        ),
    )
    monkeypatch.setattr(domains_module.anatomy, "is_valid", lambda masks, thresholds=None: (masks > 0).any((-2, -1)))
    schedule = recipes.AdaptConfig(
        num_iterations=1,
        reward_steps=2,
        critic_steps=2,
        ppo_steps=2,
        weight_noise=(0.1,),
        ppo=adaptation.PPOConfig(num_updates=1),
    )
    config = Config(
        out=tmp_path,
        domain=DomainConfig(size=SIDE),
        features=(2, 4),
        reward_features=(2, 4),
        source_steps=2,
        seeds=(0,),
        adapt=schedule,
    )
    table = rl4seg2024.main(config)
    assert table.count("\n") == 8
    assert all(
        name in table
        for name in ("source only", "reinforcement |", "true reward", "self-training", "entropy", "adversarial")
    )
    assert (tmp_path / "phantom_scores.json").exists()


def test_altered_and_resized_images_keep_their_place():
    masks = np.zeros((2, 32, 32), int)
    masks[:, 8:16, 8:24] = 1
    small = domains_module.coarse(masks, 16)
    np.testing.assert_array_equal(small, masks[:, ::2, ::2])
    bright = domains_module.resize(np.ones((1, 8, 8, 1), np.float32), 4)
    np.testing.assert_allclose(bright, 1, rtol=1e-6)


def test_the_table_has_means_and_ranges():
    names = ("dice", "hd", "valid", "hd_largest", "valid_largest", "valid_published_largest")
    runs = [dict(zip(names, row, strict=True)) for row in ((0.8, 5.0, 0.5, 4.0, 0.6, 1), (0.9, 7.0, 0.7, 4.0, 0.6, 1))]
    text = rl4seg2024.format_table({"method": runs})
    assert "| method | 0.850 (0.800 to 0.900) | 6.0 (5.0 to 7.0) | 0.600 (0.500 to 0.700) | 4.0 (4.0 to 4.0)" in text
