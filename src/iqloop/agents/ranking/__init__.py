"""Images from best to worst: what is asked of the critic, who meets whom, and what the answers say together.

places          the data: a place, a match, a ranking
rank_images     the whole of it
entrants        images as they enter: equal ones once, in an order that does not follow from the input's
matches         asking the critic about two images, at one size
pairing         who meets whom in a round
tournament      the rounds: knockout, Swiss, everyone, near ties
bradley_terry   from outcomes to strengths and standard errors
score_prior     from scores to what is thought of strengths beforehand
standing        from strengths to places
"""

from __future__ import annotations

from iqloop.agents.ranking.places import By, Match, Ranked, Ranking, rank_ratings
from iqloop.agents.ranking.rank_images import rank, rank_by_score

__all__ = ["By", "Match", "Ranked", "Ranking", "rank", "rank_by_score", "rank_ratings"]
