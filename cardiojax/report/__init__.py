"""The report of an analysis: HTML page, measurements, masks."""

from cardiojax.report.files import OutputFolderError as OutputFolderError
from cardiojax.report.files import to_dict as to_dict
from cardiojax.report.files import write_report as write_report
