"""The Gram matrix of a layer's patches, from the products of few of their rows."""

from torch import Tensor

from ftbc_lightning.calibration.patches import Unfolded


def add_products(gram: Tensor, read: Unfolded, wanted: Tensor) -> None:
    """Add products of inputs, of the constant 1 and of what is wanted; `complete` ends it.

    U_i are the rows of the layer's input that row i of its kernel reads, H rows for H rows of
    the output. With stride 1 the products of two rows of the kernel differ from those of the two
    rows before by the borders alone,

        U_(i+1)^T U_(j+1) = U_i^T U_j - (rows i and j of the input) + (rows i + H and j + H),

    so that whole products are taken with the first row of the kernel only, a third of the
    work for three rows, and nothing is unfolded over rows. Of each product i <= j is enough.

    Args:
        gram: `[groups, size, size + outputs]`, float64, changed in place; `size` is the number of
            inputs, or one more with a constant.
        read: The inputs.
        wanted: `[groups, N, outputs]`.
    """
    windows, columns = read.windows(), read.values.shape[3]
    inputs, size = columns * read.kernel, gram.shape[1]
    blocks = gram[:, :inputs].view(len(gram), read.kernel, columns, -1)
    for row in range(1 if by_borders(read) else read.kernel):
        products = windows[:, row : row + 1].mT @ windows[:, row:]
        blocks[:, row, :, row * columns : inputs] += products.transpose(1, 2).flatten(2)
    if by_borders(read):
        gram[:, columns:inputs, columns:inputs] += _products(read, read.outputs)
        gram[:, columns:inputs, columns:inputs] -= _products(read, 0)
    blocks[..., size:] += windows.mT @ wanted.unsqueeze(1)
    if size > inputs:
        gram[:, inputs, :inputs] += windows.sum(2).flatten(1)
        gram[:, inputs, inputs] += wanted.shape[1]
        gram[:, inputs, size:] += wanted.sum(1)


def by_borders(read: Unfolded) -> bool:
    """Whether products are found from those before, which pays where there are rows enough."""
    return read.kernel > 1 and read.stride == 1 and 2 * read.dilation < read.outputs


def _products(read: Unfolded, first: int) -> Tensor:
    """Of the rows of a border with each other, by the row of the kernel that reads them next."""
    last = first + (read.kernel - 1) * read.dilation
    groups, _, *shape = read.values.shape
    rows = read.values[:, first:last].view(groups, -1, read.dilation, *shape)
    rows = rows.permute(0, 2, 3, 1, 4).flatten(3).flatten(1, 2)
    return rows.mT @ rows


def complete(gram: Tensor, read: Unfolded) -> None:
    """Sum up what was added as differences, and fill the part below the diagonal.

    Args:
        gram: `[..., size, size + outputs]`, changed in place.
        read: Any of the inputs.
    """
    columns = read.values.shape[3]
    inputs = columns * read.kernel
    shape = (*gram.shape[:-2], read.kernel, columns, read.kernel, columns)
    blocks = gram[..., :inputs, :inputs].view(shape)
    for i in range(1, read.kernel):
        if by_borders(read):
            blocks[..., i, :, i:, :] += blocks[..., i - 1, :, i - 1 : -1, :]
        for j in range(i):
            blocks[..., i, :, j, :] = blocks[..., j, :, i, :].mT
