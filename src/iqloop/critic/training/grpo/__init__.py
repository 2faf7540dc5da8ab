"""Train a critic by reinforcement: group relative policy optimisation on trl, as Q-Insight and VisualQuality-R1 did.

settings    the papers' hyper-parameters, each overridable
rows        examples as trl's data set
batches     which rows make a step
graded      rewards behind trl's signature
trainer     trl's trainer, with what critics need changed
journal     what a run tells
run         checkpoints, exact resume
"""

from iqloop.critic.training.grpo.batches import Batches, grouping, steps_of
from iqloop.critic.training.grpo.graded import reward_functions
from iqloop.critic.training.grpo.rows import ANSWERED, rows
from iqloop.critic.training.grpo.run import newest, train_grpo
from iqloop.critic.training.grpo.settings import PRESETS, GrpoSettings, prompts_of
from iqloop.critic.training.grpo.trainer import LORA_TARGETS, Machine, passes, trainer

__all__ = [
    "ANSWERED",
    "LORA_TARGETS",
    "PRESETS",
    "Batches",
    "GrpoSettings",
    "Machine",
    "grouping",
    "newest",
    "passes",
    "prompts_of",
    "reward_functions",
    "rows",
    "steps_of",
    "train_grpo",
    "trainer",
]
