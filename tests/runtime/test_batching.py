"""Threads that share batches get the results of their own examples."""

import threading
from concurrent.futures import ThreadPoolExecutor

import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import ops
from cardiojax.runtime import SharedBatches, map_full_batches


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


@pytest.mark.parametrize("num", [1, 4, 5, 11])
def test_full_batches_keep_the_order_and_drop_what_fills_them(num):
    shapes = set()

    def function(x, y):
        shapes.add((x.shape, y.shape))
        return {"sum": x.sum(1) + y, "first": x[:, 0]}

    x, y = np.arange(3.0 * num).reshape(num, 3), np.arange(num)
    result = map_full_batches(function, x, y, batch_size=4)
    np.testing.assert_array_equal(result["sum"], x.sum(1) + y)
    np.testing.assert_array_equal(result["first"], x[:, 0])
    assert shapes == {((4, 3), (4,))}


def test_full_batches_refuse_what_differs_in_length_and_pass_errors_on():
    with pytest.raises(ValueError, match=r"of one length of at least 1, got lengths \[8, 7\]"):
        map_full_batches(np.add, np.zeros(8), np.zeros(7), batch_size=8)
    with pytest.raises(ValueError, match="of at least 1"):
        map_full_batches(np.negative, np.zeros(0), batch_size=8)
    with pytest.raises(ZeroDivisionError):
        map_full_batches(lambda x: 1 // 0, np.zeros(9), batch_size=2)


def test_few_examples_are_a_smaller_batch_unless_its_size_is_fixed():
    def sizes(x):
        return np.full(len(x), len(x))

    assert ops.map_batches(sizes, np.zeros(3), batch_size=8).tolist() == [3, 3, 3]
    assert ops.map_batches(sizes, np.zeros(3), batch_size=8, is_fixed=True).tolist() == [8, 8, 8]


def test_blocks_of_no_example_are_refused():
    with pytest.raises(ValueError, match="block_size must be at least 1, got 0"):
        ops.map_blocks(lambda x: x, jnp.zeros((3, 2)), block_size=0)
