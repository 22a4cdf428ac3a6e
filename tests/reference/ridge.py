"""Weights in closed form as written on paper: patches by loops, one least-squares problem."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def ridge(module: nn.Module, r: Tensor, gap: Tensor, shrinkage: float) -> tuple[Tensor, Tensor]:
    """(dW, db) that minimise sum |dW r + db - gap|^2 + shrinkage * mean(diag(R R^T)) |dW|^2.

    The penalty is written as rows of its own, sqrt(strength) * dW = 0, for each group.
    """
    groups = getattr(module, "groups", 1)
    rows = [patch_rows(module, r, group) for group in range(groups)]
    outputs = gap.movedim(1, -1).reshape(-1, groups, gap.shape[1] // groups)
    weights, shifts = [], []
    for group, patches in enumerate(rows):
        size = patches.shape[1]
        strength = shrinkage * patches.square().sum(0).mean()
        ones = torch.ones(len(patches), int(module.bias is not None), dtype=r.dtype)
        left = torch.cat([patches, ones], dim=1)
        penalty = strength.sqrt() * torch.eye(size, left.shape[1], dtype=r.dtype)
        right = torch.cat([outputs[:, group], torch.zeros(size, outputs.shape[2], dtype=r.dtype)])
        found = torch.linalg.lstsq(torch.cat([left, penalty]), right).solution
        weights.append(found[:size].T)
        shifts.append(found[size:].sum(0))
    return torch.cat(weights).reshape(module.weight.shape), torch.cat(shifts)


def patch_rows(module: nn.Module, r: Tensor, group: int) -> Tensor:
    """One row for each sample and output place, found by asking the layer itself.

    Input i of a patch is what the output becomes when the weight i alone is 1.
    """
    size = module.weight[0].numel()
    columns = []
    for index in range(size):
        weight = torch.zeros_like(module.weight)
        outputs = len(weight) // getattr(module, "groups", 1)
        weight[group * outputs].view(-1)[index] = 1.0
        state = {"weight": weight}
        if module.bias is not None:
            state["bias"] = torch.zeros_like(module.bias)
        picked = torch.func.functional_call(module, state, (r,))[:, group * outputs]
        columns.append(picked.flatten())
    return torch.stack(columns, dim=1)
