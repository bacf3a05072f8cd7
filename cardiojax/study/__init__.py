"""From the recordings of a patient to the numbers of the patient."""

from cardiojax.study.analysis import Clip as Clip
from cardiojax.study.analysis import StudyAnalysis as StudyAnalysis
from cardiojax.study.analysis import analyze_study as analyze_study
from cardiojax.study.analyzer import Analyzer as Analyzer
from cardiojax.study.collect import CollectedFiles as CollectedFiles
from cardiojax.study.collect import OtherFile as OtherFile
from cardiojax.study.collect import StudyError as StudyError
from cardiojax.study.collect import StudyFiles as StudyFiles
from cardiojax.study.collect import files_of_study as files_of_study
from cardiojax.study.collect import find_studies as find_studies
from cardiojax.study.collect import several_patients as several_patients
from cardiojax.study.measurements import Quantity as Quantity
from cardiojax.study.measurements import StudyMeasurements as StudyMeasurements
from cardiojax.study.measurements import measure_study as measure_study
from cardiojax.study.patient import Patient as Patient
from cardiojax.study.patient import describe_patient as describe_patient
from cardiojax.study.quality import Quality as Quality
from cardiojax.study.quality import assess_quality as assess_quality
from cardiojax.study.view import View as View
