"""The report of an analysis: HTML page, measurements, label maps."""

from cardiojax.report.files import write_report as write_report
from cardiojax.report.files import write_study as write_study
from cardiojax.report.output import OutputFolderError as OutputFolderError
from cardiojax.report.output import check_output as check_output
from cardiojax.report.schema import SCHEMA_VERSION as SCHEMA_VERSION
from cardiojax.report.schema import to_dict as to_dict
from cardiojax.report.study import study_to_dict as study_to_dict
from cardiojax.report.table import json_schema as json_schema
from cardiojax.report.table import table_columns as table_columns
from cardiojax.report.table import to_frame as to_frame
from cardiojax.report.table import to_row as to_row
