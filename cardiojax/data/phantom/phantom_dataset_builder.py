"""TFDS builder of simulated loops, written and read without TensorFlow."""

import functools
import math

import jax
import numpy as np
import tensorflow_datasets as tfds

from cardiojax.data.phantom.patients import PATHOLOGIES, Patient, PhantomSet, sample_patient
from cardiojax.data.phantom.recording import simulate
from cardiojax.data.phantom.scanner import VENDORS


class Builder(tfds.core.GeneratorBasedBuilder):
    """Simulated apical loops with exact masks of every frame."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, phantom: PhantomSet, **kwargs):
        self._phantom = phantom
        config = tfds.core.BuilderConfig(name=phantom.name, description="Apical loops with a mask for every frame.")
        super().__init__(config=config, **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        set_ = self._phantom
        pixels = tfds.features.Tensor(shape=(set_.num_frames, set_.size, set_.size), dtype=np.uint8, encoding="zlib")
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": pixels,
                    "label": pixels,
                    "spacing": tfds.features.Tensor(shape=(2,), dtype=np.float32),
                    "volume": tfds.features.Tensor(shape=(set_.num_frames,), dtype=np.float32),
                    "patient": tfds.features.Text(),
                    "view": tfds.features.Text(),
                    "vendor": tfds.features.Text(),
                    "pathology": tfds.features.Text(),
                    "ejection_fraction": tfds.features.Scalar(np.float32),
                    "heart_rate": tfds.features.Scalar(np.float32),
                    "frame_rate": tfds.features.Scalar(np.float32),
                }
            ),
            license="CC BY-NC-SA 4.0 (the shapes are statistics of CAMUS)",
            metadata=tfds.core.MetadataDict(set_.metadata),
        )

    def _split_generators(self, dl_manager):
        count = self._phantom.num_patients
        num_train = min(math.ceil(0.8 * count), count - 1)
        return {
            "train": self._generate_examples(range(num_train)),
            "validation": self._generate_examples(range(num_train, count)),
        }

    def _generate_examples(self, numbers):
        set_ = self._phantom
        draw = jax.jit(functools.partial(sample_patient, abnormal=set_.abnormal))
        record = {view: jax.jit(functools.partial(self._record, view=view)) for view in set_.views}
        for number in numbers:
            patient_key, *view_keys = jax.random.split(jax.random.fold_in(jax.random.key(set_.seed), number), 3)
            patient = draw(patient_key)
            for view, key in zip(set_.views, view_keys, strict=False):
                loop, frame_rate = record[view](key, patient)
                name = f"patient{number + 1:04d}"
                yield (
                    f"{name}_{view}",
                    {
                        "image": np.rint(255 * np.asarray(loop.images[..., 0])).astype(np.uint8),
                        "label": np.asarray(loop.labels).astype(np.uint8),
                        "spacing": np.asarray(loop.spacing),
                        "volume": np.asarray(loop.volume),
                        "patient": name,
                        "view": view,
                        "vendor": set_.vendor,
                        "pathology": list(PATHOLOGIES)[int(patient.pathology)],
                        "ejection_fraction": float(patient.ejection_fraction),
                        "heart_rate": float(patient.heart_rate),
                        "frame_rate": float(frame_rate),
                    },
                )

    def _record(self, key, patient: Patient, *, view: str):
        """One beat: the first frame and the last are end-diastole."""
        set_ = self._phantom
        frame_rate = (set_.num_frames - 1) * patient.heart_rate / 60
        loop = simulate(
            key,
            patient.heart,
            view=view,
            vendor=VENDORS[set_.vendor],
            num_frames=set_.num_frames,
            shape=(set_.size, set_.size),
            frame_rate=frame_rate,
            heart_rate=patient.heart_rate,
            ejection_fraction=patient.ejection_fraction,
            akinesia=patient.akinesia,
        )
        return loop, frame_rate
