"""DICOM files: header, pixels, spacing and time."""

from cardiojax.data.formats.dicom.decoder import decode as decode
from cardiojax.data.formats.dicom.decoder import starts_dataset as starts_dataset
