"""The closed set of operations that files hold, and what each of them computes.

Every operation maps arrays `[B, ...]` of one time step to one array `[B, ...]`. Shapes are those of
one sample; axes count the batch axis as 0:

| op | attributes | tensors | output |
|---|---|---|---|
| `input` | | | the sample, the same at every step |
| `conv` | `stride`, `padding`, `dilation`, `groups` | `weight [O, I/groups, ...]`, `bias [O]` | |
| `linear` | | `weight [O, I]`, `bias [O]` | over the last axis |
| `affine` | | `scale [C]`, `shift [C]` | `scale * x + shift` for each channel (axis 1) |
| `avg_pool` | `kernel`, `stride`, `padding` | | mean of each window, padding counted as 0 |
| `max_pool` | `kernel`, `stride`, `padding`, `dilation`, `ceil_mode`, `in_time` | | see below |
| `add` | | | the sum of its inputs, all of one shape |
| `concat` | `axis` | | |
| `flatten`, `reshape` | | | to `shape`, row by row |
| `permute` | `axes` | | |
| `pad` | `pad`: `[before, after]` for each axis but the batch | | zeros around |
| `slice` | `slices`: `[start, stop, step]` for each axis but the batch | | |
| `neuron` | | `threshold [C]`, `initial_membrane [C]`, `temporal_bias [T, C]` | spikes 0 and 1 |
| `round` | | | the nearest integers, halves to even ones: only in files of integers |
| `output` | | | what the logits are the mean of |

A neuron carries its membrane, which begins at `initial_membrane`, from step to step:

    u = v + x + temporal_bias[t];   s = 1 if u >= threshold else 0;   v = u - threshold * s

Files of other neurons have format version 2, and these attributes where they are needed:

| op | attribute | else | meaning |
|---|---|---|---|
| `neuron` | `levels` | 1 | K: `s = floor(u / threshold)` within 0 and K |
| `neuron` | `signed` | false | within -K and K, and at least minus the sum of s so far |
| `neuron` | `leak` | 1 | `v = leak * (u - threshold * s)` |
| `max_pool` in time | `leak` | 1 | `max(leak * S + x) - leak * max(S)`, `S = leak * S + x` |
| `output` | `leak` | 1 | logits `r / n`, `r = leak * r + output`, `n = leak * n + 1`, both from 0 |

All neurons of a file are alike, and all its leaks are the same.

Files of integers (`ftbc_lightning.interchange.integers`) have format version 3 and an entry
`integers` in the header; a neuron has a tensor more, `unit [C]`.

A `max_pool` with `in_time` carries S, the sum of its inputs so far, and passes on how much the
maximum of S has grown: `max(S + x) - max(S)`; without it (before the first spike) it is an ordinary
one. Its padding never wins. Paddings are those before each axis; what is needed after it follows
from `shape`.

Networks with functions that are not linear have format version 4, and these operations besides:

| op | attributes | tensors | output |
|---|---|---|---|
| `constant` | | `value`, of the operation's shape | the value, the same at every step |
| `scale` | | `factor`, of as many axes as the shape, some of them 1 | `factor * x` |
| `roll` | `shifts`: one for each axis but the batch | | moved around, as `numpy.roll` does |
| `neuron` | `two_sided`: true | as above | an encoder: `s` within -K and K, whatever was sent |
| `gelu` | `approximate`: "none" or "tanh" | | `x Phi(x)` |
| `silu`, `sigmoid`, `tanh`, `mish` | | | |
| `hardswish`, `hardsigmoid` | | | `x h(x)` and `h(x) = clip(x / 6 + 1 / 2, 0, 1)` |
| `elu` | `alpha` | | |
| `softplus` | | | `log(1 + exp(x))` |
| `softmax`, `log_softmax` | `axis` | | |
| `layer_norm` | `axes`: how many, the last ones; `eps` | `weight`, `bias` | |
| `rms_norm` | likewise | `weight` | |
| `group_norm` | `groups`, `eps` | `weight [C]`, `bias [C]` | |
| `product`, `quotient`, `matmul` | | | of two values, broadcast |
| `einsum` | `equation`, as in NumPy, with the batch axis | | |

From `gelu` on they are functions f of m, what each input was so far in the mean, and pass on how
much f has grown; `leak` is 1 where it is not there:

    S = leak * S + x;   n' = n;   n = leak * n + 1;   m = S / n
    y = n * f(m) - leak * n' * f(m'),   m' the mean before, both parts 0 before step 0

A function with `in_time` false reads only what is the same at every step: `y = f(x)`.
"""

FUNCTIONS: dict[str, tuple[str, ...]] = {
    "gelu": ("approximate",),
    **dict.fromkeys(("silu", "sigmoid", "tanh", "mish", "hardswish", "hardsigmoid"), ()),
    "elu": ("alpha",),
    "softplus": (),
    **dict.fromkeys(("softmax", "log_softmax"), ("axis",)),
    **dict.fromkeys(("layer_norm", "rms_norm"), ("axes", "eps")),
    "group_norm": ("groups", "eps"),
    **dict.fromkeys(("product", "quotient", "matmul"), ()),
    "einsum": ("equation",),
}
"""Functions that are taken over what has arrived so far, with their settings."""

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "input": (),
    "conv": ("stride", "padding", "dilation", "groups"),
    "linear": (),
    "affine": (),
    "avg_pool": ("kernel", "stride", "padding"),
    "max_pool": ("kernel", "stride", "padding", "dilation", "ceil_mode", "in_time"),
    "add": (),
    "concat": ("axis",),
    "flatten": (),
    "reshape": (),
    "permute": ("axes",),
    "pad": ("pad",),
    "slice": ("slices",),
    "neuron": (),
    "round": (),
    "output": (),
    "constant": (),
    "scale": (),
    "roll": ("shifts",),
    **{kind: (*settings, "in_time") for kind, settings in FUNCTIONS.items()},
}
"""The closed set: each operation with the names of its attributes."""

LATER = {"constant", "scale", "roll", *FUNCTIONS}
"""Operations that version 3 does not know."""

OPTIONAL: dict[str, dict[str, type]] = {
    "neuron": {"signed": bool, "levels": int, "leak": float, "two_sided": bool},
    "max_pool": {"leak": float},
    "output": {"leak": float},
    **{kind: {"leak": float} for kind in FUNCTIONS},
}
"""Attributes that are there where neurons are not plain, with the type of each."""

TENSORS: dict[str, tuple[str, ...]] = {
    "conv": ("weight", "bias"),
    "linear": ("weight", "bias"),
    "affine": ("scale", "shift"),
    "neuron": ("threshold", "initial_membrane", "temporal_bias"),
    "constant": ("value",),
    "scale": ("factor",),
    **dict.fromkeys(("layer_norm", "group_norm"), ("weight", "bias")),
    "rms_norm": ("weight",),
}
"""The tensors of each operation that has any."""

UNIT = "unit"
"""A tensor that neurons have besides, in files of integers."""
