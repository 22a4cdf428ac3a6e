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


@torch.no_grad()
def held(
    module: nn.Module, r: Tensor, gap: Tensor, shrinkage: float, halves: list[list[int]]
) -> tuple[Tensor, Tensor]:
    """(share * dW, db): dW of all samples, as much of it as holds from one half to the other.

    The multiple of a half's dW is the slope of a line through the other half: what is wanted
    there against what dW gives there, both without their means where the layer has a bias.
    """
    weight, _ = ridge(module, r, gap, shrinkage)
    axes = [axis for axis in range(gap.ndim) if axis != 1]

    def given(change: Tensor, part: list[int]) -> Tensor:
        state = {"weight": change}
        if module.bias is not None:
            state["bias"] = torch.zeros_like(module.bias)
        return torch.func.functional_call(module, state, (r[part],))

    def varying(values: Tensor) -> Tensor:
        return values if module.bias is None else values - values.mean(axes, keepdim=True)

    over = under = 0.0
    for here, there in (halves, halves[::-1]):
        change, _ = ridge(module, r[here], gap[here], shrinkage)
        moved, wanted = varying(given(change, there)), varying(gap[there])
        over, under = over + (moved * wanted).sum(axes), under + (moved * moved).sum(axes)
    share = torch.where(under > 0, over / under, 0.0).clamp(0, 1)  # 0 where nothing is wanted
    weight = weight * share.view(-1, *[1] * (weight.ndim - 1))
    return weight, (gap - given(weight, list(range(len(r))))).mean(axes)


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
