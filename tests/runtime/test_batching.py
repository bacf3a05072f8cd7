"""Threads that share batches get the results of their own examples."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cardiojax.runtime import SharedBatches


def test_each_thread_gets_its_own_results_and_every_batch_is_full_size():
    shapes = set()

    def double(batch):
        shapes.add(batch.shape)
        return 2 * batch

    share = SharedBatches(double, batch_size=8)

    def call(i):
        examples = np.full((1 + i % 5, 3), i, np.float32)
        return np.array_equal(share(examples), 2 * examples)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(call, range(500)))
    assert shapes == {(8, 3)}
    assert share.num_examples == sum(1 + i % 5 for i in range(500))


def test_examples_that_wait_share_the_next_batch():
    is_inside, may_go_on = threading.Event(), threading.Event()

    def function(batch):
        if not is_inside.is_set():
            is_inside.set()
            assert may_go_on.wait(30)
        return batch

    share = SharedBatches(function, batch_size=8)
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(share, np.zeros(1))
        assert is_inside.wait(30)
        others = [pool.submit(share, np.full(2, i)) for i in range(1, 5)]
        while len(share._waiting) < 8:
            threading.Event().wait(0.001)
        may_go_on.set()
        assert first.result().tolist() == [0]
        assert [other.result().tolist() for other in others] == [[i, i] for i in range(1, 5)]
    assert (share.num_calls, share.num_examples) == (2, 9)


def test_an_exception_reaches_those_whose_examples_were_in_the_batch():
    def refuse(batch):
        if (batch == 1).any():
            raise ValueError("no")
        return batch

    share = SharedBatches(refuse, batch_size=2)
    with pytest.raises(ValueError, match="no"):
        share(np.ones(3))
    assert share(np.zeros(3)).tolist() == [0, 0, 0]
