"""The cut of an atrium: what is missing grows with the share of the outline at the edge."""

import numpy as np

from experiments.segmentation.atrial_cut import cuts_of, table
from tests.helpers.loops import heart


def test_missing_volume_grows_with_the_share_at_the_edge():
    labels = np.pad(heart(140, 140, (0.4, 0.15)), 10)
    cuts = cuts_of(labels, np.pad(np.ones((152, 152), bool), 4), (1.0, 1.0), 4)
    shares, volumes = [cut.share for cut in cuts], [cut.disks for cut in cuts]
    assert len(cuts) > 3
    assert shares == sorted(shares)
    assert volumes == sorted(volumes, reverse=True)
    assert volumes[0] > 0.97
    assert table(cuts).count("\n") >= 3
    assert cuts_of(labels, labels > 0, (1.0, 1.0), 4) == []  # cut already
