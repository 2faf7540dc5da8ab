"""What an answer is worth in training: plain functions of texts and labels, which grade evaluation as well.

    perception   format, score, degradation and comparison (Q-Insight, Li et al. 2025, equations 3 to 8)
    ranking      reinforcement learning to rank, and its ablations (VisualQuality-R1, Wu et al. 2025)

An answer that does not parse is worth nothing; it is never read as a random number.
"""

from iqloop.critic.rewards.perception import (
    comparison_reward,
    degradation_reward,
    format_reward,
    group_advantages,
    score_reward,
)
from iqloop.critic.rewards.ranking import Variant, ranking_rewards

__all__ = [
    "Variant",
    "comparison_reward",
    "degradation_reward",
    "format_reward",
    "group_advantages",
    "ranking_rewards",
    "score_reward",
]
