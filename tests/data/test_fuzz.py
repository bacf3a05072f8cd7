"""Damaged files of every format end in one sentence or are read, within the memory that is stated."""

import pytest

from tests.helpers import fuzz


@pytest.mark.parametrize("name", sorted(fuzz.READERS))
def test_damaged_files_are_read_or_refused_in_a_sentence(name):
    counts, findings = fuzz.run(name, 300)
    assert findings == []
    assert "read" in counts
    assert "refused" in counts
