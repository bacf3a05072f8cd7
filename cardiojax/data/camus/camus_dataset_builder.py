"""TFDS builder of CAMUS, written and read without TensorFlow."""

from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from cardiojax.data.camus.layout import find_release, read_frames, read_sequences

_CITATION = """@article{leclerc2019deep,
  title={Deep Learning for Segmentation using an Open Large-Scale Dataset in 2D Echocardiography},
  author={Leclerc, Sarah and Smistad, Erik and Pedrosa, Joao and Ostvik, Andreas and others},
  journal={IEEE Transactions on Medical Imaging}, volume={38}, number={9}, pages={2198--2210}, year={2019},
  doi={10.1109/TMI.2019.2900516}
}"""


class Builder(tfds.core.GeneratorBasedBuilder):
    """CAMUS: apical two- and four-chamber views of 500 patients with masks at end-diastole and end-systole."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Register at https://humanheart-project.creatis.insa-lyon.fr/database/ and unpack the NIfTI release (or the older
    .mhd release of the challenge) into the manual directory. For non-commercial scientific research only.
    """
    BUILDER_CONFIGS = [  # noqa: RUF012 (TFDS wants a list)
        tfds.core.BuilderConfig(name="nifti", description="The NIfTI release: isotropic pixels of 0.308 mm."),
        tfds.core.BuilderConfig(name="mhd", description="The challenge release: pixels of 0.154 x 0.308 mm."),
        tfds.core.BuilderConfig(
            name="nifti_sequence", description="Half cycles of the NIfTI release, each frame annotated."
        ),
    ]

    def __init__(self, *, source: dict[str, Any] | None = None, **kwargs):
        self._source = source
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        is_sequence = self._is_sequence()
        shape = (None, None, None) if is_sequence else (None, None)

        def pixels():  # several unknown dimensions can only be kept compressed
            return tfds.features.Tensor(shape=shape, dtype=np.uint8, encoding="zlib")

        features = {
            "image": pixels(),
            "label": pixels(),
            "spacing": tfds.features.Tensor(shape=(2,), dtype=np.float32),
            "patient": tfds.features.Text(),
            "view": tfds.features.Text(),
            "image_quality": tfds.features.Text(),
            "sex": tfds.features.Text(),
            "age": tfds.features.Scalar(np.float32),
            "ejection_fraction": tfds.features.Scalar(np.float32),
            "frame_rate": tfds.features.Scalar(np.float32),
        }
        if not is_sequence:
            features["phase"] = tfds.features.Text()
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            homepage="https://www.creatis.insa-lyon.fr/Challenge/camus/",
            citation=_CITATION,
            license="CC BY-NC-SA 4.0",
            metadata=tfds.core.MetadataDict(self._source or {}),
        )

    def _split_generators(self, dl_manager):
        release = find_release(str(dl_manager.manual_dir))
        return {
            split: self._generate_examples({name: release.patients[name] for name in names})
            for split, names in release.splits.items()
        }

    def _generate_examples(self, folders):
        read = read_sequences if self._is_sequence() else read_frames
        for patient, folder in folders.items():
            for example in read(folder, patient):
                yield f"{patient}_{example['view']}_{example.get('phase', 'sequence')}", example

    def _is_sequence(self) -> bool:
        return self.builder_config is not None and self.builder_config.name == "nifti_sequence"
