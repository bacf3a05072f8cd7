"""MP4, AVI and whatever else FFmpeg reads."""

from pathlib import Path

import numpy as np

from cardiojax.data.formats.common import Decoded, UnreadableFileError, check_frame_time, check_size


def decode(path: Path) -> Decoded:
    """Decodes the first video stream to grey values; spacing is unknown."""
    import av

    with av.open(str(path)) as container:
        if not container.streams.video:
            raise UnreadableFileError(path, "has no video stream, expected an echo loop")
        stream = container.streams.video[0]
        frames: list[np.ndarray] = []
        for frame in container.decode(stream):
            check_size(path, (len(frames) + 1, frame.height, frame.width))
            frames.append(frame.to_ndarray(format="gray"))
        rate = stream.average_rate
    if not frames:
        raise UnreadableFileError(path, "has no frame that can be decoded, expected at least one")
    if len({f.shape for f in frames}) > 1:
        raise UnreadableFileError(path, "changes its frame size within the loop, expected one size")
    time = check_frame_time(float(1 / rate)) if rate else None
    return Decoded(np.stack(frames).astype(np.float32) / 255, None, time, "spacing unknown")
