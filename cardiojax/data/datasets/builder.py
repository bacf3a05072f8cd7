"""The TFDS builder of every dataset, written and read without TensorFlow."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from cardiojax.data.datasets.schema import Item, Layout, Pixels, check_pixels

#: Fields of an `Item` that every example has, by their type.
_TEXT = ("patient", "view", "vendor", "centre", "sex", "image_quality")
_NUMBERS = ("ejection_fraction", "frame_rate", "age")


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Recordings and their label maps in one schema.

    Args:
        layout: The dataset.
        kind: ``"frames"`` or ``"loops"``.
        splits: The recordings of each split.
        source: What decides the content, kept as metadata.
        **kwargs: Those of TFDS.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self, *, layout: Layout, kind: str, splits: dict[str, list[Item]], source: dict[str, Any], **kwargs: Any
    ):
        self.name = layout.name  # pyright: ignore[reportAttributeAccessIssue]
        self._layout, self._splits, self._source = layout, splits, source
        super().__init__(config=tfds.core.BuilderConfig(name=kind, description=layout.description), **kwargs)

    @property
    def _is_loop(self) -> bool:
        return self.builder_config is not None and self.builder_config.name == "loops"

    def _info(self) -> tfds.core.DatasetInfo:
        axes = 3 if self._is_loop else 2

        def pixels():  # several unknown dimensions can only be kept compressed
            return tfds.features.Tensor(shape=(None,) * axes, dtype=np.uint8, encoding="zlib")

        features = {
            "image": pixels(),
            "label": pixels(),
            "present": tfds.features.Tensor(shape=(len(self._layout.structures),), dtype=np.bool_),
            "spacing": tfds.features.Tensor(shape=(2,), dtype=np.float32),
            **{name: tfds.features.Text() for name in _TEXT},
            **{name: tfds.features.Scalar(np.float32) for name in _NUMBERS},
        }
        if self._is_loop:
            features |= {
                "annotated": tfds.features.Tensor(shape=(None,), dtype=np.bool_),
                "end_diastole": tfds.features.Scalar(np.int32),
                "end_systole": tfds.features.Scalar(np.int32),
            }
        else:
            features |= {
                "phase": tfds.features.Text(),
                "frame": tfds.features.Scalar(np.int32),
                "slice": tfds.features.Scalar(np.int32),
            }
        return tfds.core.DatasetInfo(
            builder=self,
            description=self._layout.description,
            features=tfds.features.FeaturesDict(features),
            homepage="",
            citation=self._layout.citation,
            license=self._layout.licence,
            metadata=tfds.core.MetadataDict(self._source),
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(items) for split, items in self._splits.items()}

    def _generate_examples(self, items: Sequence[Item]):
        for number, item in enumerate(items):
            pixels = check_pixels(item.files[0], item.read(), self._layout.structures)
            examples = (loop_example if self._is_loop else frame_examples)(item, pixels, self._layout)
            for part, example in enumerate(examples):
                yield f"{number:06d}_{part:05d}", example


def frame_examples(item: Item, pixels: Pixels, layout: Layout) -> Iterator[dict[str, Any]]:
    """The annotated frames of a recording, or the slices of a stack.

    Args:
        item: The recording.
        pixels: What was read of it.
        layout: The dataset.

    Yields:
        Examples: ``image`` and ``label`` ``[h, w]``, ``present`` for each structure, ``spacing`` (nan if unknown),
        ``phase`` (``ED``, ``ES`` or ``frame``), ``frame`` and ``slice``, and what is known of the patient.
    """
    phases = _phases(item, len(pixels.images))
    for index in np.flatnonzero(pixels.annotated):
        yield {
            "image": pixels.images[index],
            "label": pixels.labels[index],
            "phase": item.phases.get(0, "frame") if item.is_stack else phases.get(int(index), "frame"),
            "frame": item.first_frame + (0 if item.is_stack else int(index)),
            "slice": int(index) if item.is_stack else 0,
            **_describe(item, pixels, layout),
        }


def loop_example(item: Item, pixels: Pixels, layout: Layout) -> Iterator[dict[str, Any]]:
    """A whole recording.

    Args:
        item: The recording.
        pixels: What was read of it.
        layout: The dataset.

    Yields:
        One example: ``image`` and ``label`` ``[t, h, w]``, ``annotated`` ``[t]``, the frames ``end_diastole`` and
        ``end_systole`` (-1 if unknown), and the rest as `frame_examples`.
    """
    frames = {phase: frame for frame, phase in sorted(_phases(item, len(pixels.images)).items(), reverse=True)}
    yield {
        "image": pixels.images,
        "label": pixels.labels,
        "annotated": pixels.annotated,
        "end_diastole": frames.get("ED", -1),
        "end_systole": frames.get("ES", -1),
        **_describe(item, pixels, layout),
    }


def _phases(item: Item, num_frames: int) -> dict[int, str]:
    """Phases by index; negative indices count from the end."""
    return {index % num_frames: phase for index, phase in item.phases.items() if -num_frames <= index < num_frames}


def _describe(item: Item, pixels: Pixels, layout: Layout) -> dict[str, Any]:
    names = layout.structures.names
    spacing = (math.nan, math.nan) if pixels.spacing is None else pixels.spacing
    present = [name in ("background", *(item.structures or names)) for name in names]
    return {
        "present": np.array(present),
        "spacing": np.asarray(spacing, np.float32),
        **{name: getattr(item, name) for name in (*_TEXT, *_NUMBERS)},
    }
