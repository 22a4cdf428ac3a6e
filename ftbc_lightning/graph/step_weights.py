"""How much each step counts: all the same without a leak, later ones more with it."""

from torch import Tensor


def step_weights(timesteps: int, leak: float, *, like: Tensor) -> Tensor:
    """The weight of each step in a mean over all of them.

        c[t-1] / c[t] = leak,   mean over t of c[t] = 1

    In units of theta * c[t] a neuron with a leak is the plain neuron with soft reset, so that what
    it has emitted by T steps is the mean of theta * s[t] with these weights.

    Args:
        timesteps: T.
        leak: Above 0 and at most 1.
        like: Its device and type are those of the weights.

    Returns:
        c, `[T]`.

    >>> import torch
    >>> step_weights(2, 0.5, like=torch.zeros(())).tolist()
    [0.6666666865348816, 1.3333333730697632]
    """
    from_last = [leak ** (timesteps - 1 - t) for t in range(timesteps)]
    return like.new_tensor([timesteps * weight / sum(from_last) for weight in from_last])


def leaky_sums(values: Tensor, leak: float, before: Tensor | None = None) -> Tensor:
    """What has been added up after each step, of which a leak has taken its part.

        S[t] = leak * S[t-1] + x[t]

    Args:
        values: x, `[steps, ...]`; left as it is.
        leak: Above 0 and at most 1.
        before: S after the step before the first; nothing if None.

    >>> import torch
    >>> leaky_sums(torch.ones(3), 0.5).tolist()
    [1.0, 1.5, 1.75]
    """
    if leak != 1:
        return added_up(values, leak, before)
    sums = values.cumsum(0)
    return sums if before is None else sums.add_(before)


def added_up(values: Tensor, leak: float, before: Tensor | None = None) -> Tensor:
    """`leaky_sums`, step after step, to the same bits however many steps come at once.

    Args:
        values: x, `[steps, ...]`; left as it is.
        leak: Above 0 and at most 1.
        before: S after the step before the first; nothing if None.

    >>> import torch
    >>> added_up(torch.ones(3), 0.5).tolist()
    [1.0, 1.5, 1.75]
    """
    sums = values.clone()
    for t in range(len(sums)):
        previous = sums[t - 1] if t else before
        if previous is not None:
            sums[t] += previous if leak == 1 else leak * previous
    return sums


def running_mean(outputs: Tensor, leak: float) -> Tensor:
    """The weighted mean of the steps up to each: how the output layer is read.

        y[t] = S[t] / n[t],   S[t] = leak * S[t-1] + x[t],   n[t] = leak * n[t-1] + 1

    Args:
        outputs: x, `[T, ...]`.
        leak: Above 0 and at most 1.
    """
    counts = leaky_sums(outputs.new_ones(len(outputs)), leak)
    return leaky_sums(outputs, leak) / counts.view(-1, *(1,) * (outputs.ndim - 1))
