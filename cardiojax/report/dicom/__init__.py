"""DICOM objects of a study: segmentations of its clips and a structured report. The only importer of highdicom."""

from cardiojax.report.dicom.files import check_dicom as check_dicom
from cardiojax.report.dicom.files import segmentation_problem as segmentation_problem
from cardiojax.report.dicom.files import write_dicom as write_dicom
