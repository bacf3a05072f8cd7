"""The comparison with few labels: its choice of patients, its scores and its table."""

import numpy as np
import pytest

from experiments.segmentation import few_labels


@pytest.fixture
def split():
    patients = np.repeat([f"patient{i:04d}" for i in range(20)], 4)
    masks = np.zeros((80, 16, 16), np.int32)
    masks[:, 4:12, 4:8], masks[:, 4:12, 8:12], masks[:, 12:15, 4:12] = 1, 2, 3
    return few_labels.Split(np.zeros((80, 16, 16), np.float32), masks, np.tile(["ED", "ES"], 40), patients)


def test_fewer_patients_are_among_more(split):
    few, many = (set(few_labels.rows_of_patients(split, num, 3)) for num in (5, 12))
    assert (len(few), len(many)) == (20, 48)
    assert few < many
    assert len(few_labels.rows_of_patients(split, 0, 3)) == 0
    assert few != set(few_labels.rows_of_patients(split, 5, 4))


def test_scores_of_each_phase(split):
    predicted = split.labels.copy()
    predicted[1::2, 4:8, 4:8] = 0  # half of the cavity is missing at end-systole
    scores = few_labels.score(predicted, split)
    assert scores["lv"] == {"ED": pytest.approx(1), "ES": pytest.approx(2 / 3)}
    assert scores["left_atrium"] == {"ED": pytest.approx(1), "ES": pytest.approx(1)}
    assert scores["epicardium"]["ES"] == pytest.approx(2 * 48 / (64 + 48))
