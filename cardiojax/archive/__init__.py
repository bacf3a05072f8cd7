"""Analysis of an archive: every study below a folder, one row of a table each, resumable."""

from cardiojax.archive.batch import BatchCounts as BatchCounts
from cardiojax.archive.journal import Journal as Journal
from cardiojax.archive.journal import JournalError as JournalError
from cardiojax.archive.rows import BatchError as BatchError
from cardiojax.archive.rows import columns as columns
from cardiojax.archive.rows import study_label as study_label
from cardiojax.archive.worker import BatchConfig as BatchConfig
