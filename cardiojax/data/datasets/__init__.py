"""Public datasets and data of one's own, in one schema: checked, built once, read through Grain."""

from cardiojax.data.datasets.build import BuildConfig as BuildConfig
from cardiojax.data.datasets.build import BuiltDataset as BuiltDataset
from cardiojax.data.datasets.build import build_dataset as build_dataset
from cardiojax.data.datasets.build import describe_dataset as describe_dataset
from cardiojax.data.datasets.build import find_recordings as find_recordings
from cardiojax.data.datasets.build import list_built as list_built
from cardiojax.data.datasets.build import open_dataset as open_dataset
from cardiojax.data.datasets.check import check_download as check_download
from cardiojax.data.datasets.check import recognise as recognise
from cardiojax.data.datasets.frames import FrameSource as FrameSource
from cardiojax.data.datasets.frames import open_frames as open_frames
from cardiojax.data.datasets.layouts import LAYOUTS as LAYOUTS
from cardiojax.data.datasets.layouts import folder_layout as folder_layout
from cardiojax.data.datasets.schema import Defect as Defect
from cardiojax.data.datasets.schema import Item as Item
from cardiojax.data.datasets.schema import Layout as Layout
from cardiojax.data.datasets.schema import Pixels as Pixels
from cardiojax.data.datasets.schema import Survey as Survey
