"""Training: pure steps over one state, and the loop that runs them."""

from cardiojax.train.checkpoints import CheckpointStore as CheckpointStore
from cardiojax.train.checkpoints import DamagedCheckpointError as DamagedCheckpointError
from cardiojax.train.checkpoints import Restored as Restored
from cardiojax.train.finetune import add_lora as add_lora
from cardiojax.train.finetune import init_lora as init_lora
from cardiojax.train.finetune import merge as merge
from cardiojax.train.finetune import partition as partition
from cardiojax.train.finetune import trainable as trainable
from cardiojax.train.logs import MetricLog as MetricLog
from cardiojax.train.logs import read_log as read_log
from cardiojax.train.loop import BatchIterator as BatchIterator
from cardiojax.train.loop import DivergedError as DivergedError
from cardiojax.train.loop import FitResult as FitResult
from cardiojax.train.loop import LoopConfig as LoopConfig
from cardiojax.train.loop import Reporter as Reporter
from cardiojax.train.loop import fit as fit
from cardiojax.train.nnunet import NNUNetOptimizerConfig as NNUNetOptimizerConfig
from cardiojax.train.nnunet import make_nnunet_optimizer as make_nnunet_optimizer
from cardiojax.train.state import ApplyFn as ApplyFn
from cardiojax.train.state import Batch as Batch
from cardiojax.train.state import OptimizerConfig as OptimizerConfig
from cardiojax.train.state import TrainState as TrainState
from cardiojax.train.state import gradient_step as gradient_step
from cardiojax.train.state import init_state as init_state
from cardiojax.train.state import make_optimizer as make_optimizer
from cardiojax.train.state import train_step as train_step
