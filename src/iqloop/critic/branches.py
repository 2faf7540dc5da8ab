"""Many possible continuations of one question, in one differentiable forward.

The continuations are folded into a tree, so that what they have in common is read once, and packed behind the
question: a mask lets each token see the question and its own ancestors only, and explicit positions place it by its
depth. The probability of every continuation's every token then costs one forward, with no sampling: label words,
answers and the digits of a rating are all read out this way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from iqloop.critic.checkpoint import Checkpoint
from iqloop.critic.context import Context, embed, forward, logits_of, pad_left


@dataclass(frozen=True)
class Tree:
    """Continuations as a tree of tokens; node 0 stands for the end of the question."""

    tokens: tuple[int, ...]
    """Token of each node after 0."""
    parents: tuple[int, ...]
    """Its parent, a smaller number."""
    paths: tuple[tuple[int, ...], ...]
    """For each continuation the nodes that it passes, without 0."""

    @classmethod
    def of(cls, continuations: Sequence[Sequence[int]]) -> Tree:
        """Fold token sequences; what they share from the start becomes one path."""
        children: dict[tuple[int, int], int] = {}
        tokens: list[int] = []
        parents: list[int] = []
        paths: list[tuple[int, ...]] = []
        for continuation in continuations:
            at, path = 0, []
            for token in continuation:
                if (at, token) not in children:
                    tokens.append(token)
                    parents.append(at)
                    children[at, token] = len(tokens)
                at = children[at, token]
                path.append(at)
            paths.append(tuple(path))
        return cls(tuple(tokens), tuple(parents), tuple(paths))

    def depths(self) -> list[int]:
        """Of each node, node 0 first, which has 0."""
        depths = [0]
        for parent in self.parents:
            depths.append(depths[parent] + 1)
        return depths

    def ancestry(self) -> Tensor:
        """``(n, n)`` bool without node 0: whether the column's node is the row's own or above it."""
        size = len(self.tokens)
        above = torch.eye(size, dtype=torch.bool)
        for node, parent in enumerate(self.parents):
            if parent:
                above[node] |= above[parent - 1]
        return above


def tree_logits(checkpoint: Checkpoint, context: Context, stems: Sequence[Sequence[int]], tree: Tree) -> Tensor:
    """Logits ``(B, 1 + n, vocabulary)`` of what follows node 0 (the end of the stem) and each node of the tree.

    Args:
        checkpoint: whom to ask.
        context: B beginnings that were read.
        stems: each row's tokens between its context and the tree, at least one.
        tree: the continuations, the same for every row.
    """
    device, count = context.ids.device, len(tree.tokens)
    ids, real = pad_left(stems, checkpoint.tokenizer.pad_token_id, device)
    batch, length = ids.shape
    ids = torch.cat([ids, torch.tensor(tree.tokens, device=device, dtype=ids.dtype).expand(batch, -1)], dim=1)
    steps = (real.cumsum(1) - 1).clamp_min(0)
    depths = torch.tensor(tree.depths()[1:], device=device, dtype=steps.dtype) - 1
    steps = torch.cat([steps, real.sum(1, keepdim=True) + depths], dim=1)

    read = context.mask.shape[1]
    mask = torch.ones(batch, length + count, read + length + count, dtype=torch.bool, device=device)
    mask[:, :, read:] = mask[:, :, read:].tril()
    mask[:, length:, read + length :] = tree.ancestry().to(device)
    mask[:, :, : read + length] &= torch.cat([context.mask, real], dim=1)[:, None]

    positions = (context.position + steps).expand(3, -1, -1)
    _, hidden = forward(checkpoint, context.cache, embed(checkpoint, ids), positions, mask[:, None])
    return logits_of(checkpoint, hidden[:, length - 1 :])


def branch_log_probs(
    checkpoint: Checkpoint, context: Context, stems: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]
) -> Tensor:
    """Log-probability ``(B, continuations)`` of each continuation, summed over its tokens; see `tree_logits`."""
    tree = Tree.of(continuations)
    log_probs = tree_logits(checkpoint, context, stems, tree).log_softmax(-1)
    parents = torch.tensor(tree.parents, device=log_probs.device)
    tokens = torch.tensor(tree.tokens, device=log_probs.device)
    steps = log_probs[:, parents, tokens]  # (B, n): each node given what comes before it
    return torch.stack([steps[:, [node - 1 for node in path]].sum(1) for path in tree.paths], dim=1)
