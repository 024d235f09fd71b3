from typing import Any, TypeAlias

# (data, dtype, batch, channels, positions, batch_stride, channel_stride, position_stride)
_Features: TypeAlias = tuple[int, int, int, int, int, int, int, int]
# (features, gram, target, target_batch_stride, difference, loss)
_GramLayer: TypeAlias = tuple[_Features, int, int, int, int, int]
# (features, difference, scale, relu_mask, accumulate, out, out_dtype, out_strides)
_GradientLayer: TypeAlias = tuple[_Features, int, float, bool, bool, int, int, tuple[int, int, int]]

def gram(layers: list[_GramLayer], threads: int) -> None: ...
def gram_gradient(layers: list[_GradientLayer], threads: int) -> None: ...

# (batch, height, width, channels_in, channels_out); addresses are 0 where a tensor is not wanted
_Shape: TypeAlias = tuple[int, int, int, int, int]

def winograd_tile(products: int, shape: tuple[int, int, int, int, int]) -> int: ...
def winograd_weights(
    tile: int,
    filters: int,
    channels_out: int,
    channels_in: int,
    gradient: bool,
    dtype: int,
    out: int,
    threads: int,
) -> None: ...
def winograd_convolution(
    dtype: int,
    products: int,
    tile: int,
    shape: _Shape,
    rows: tuple[int, int],
    input: int,
    input_positive: int,
    weights: int,
    transposed: bool,
    bias: int,
    mask: int,
    relu: bool,
    pooling: int,
    preactivation: int,
    out: int,
    pooled: int,
    positive: int,
    threads: int,
) -> None: ...
def image_convolution(
    dtype: int,
    shape: _Shape,
    image: int,
    weights: int,
    bias: int,
    preactivation: int,
    out: int,
    threads: int,
) -> None: ...
def image_gradient(
    dtype: int, shape: _Shape, gradient: int, weights: int, out: int, threads: int
) -> None: ...
def unpool(
    dtype: int,
    shape: _Shape,
    pooled: int,
    features: int,
    pooling: int,
    relu_mask: bool,
    out: int,
    threads: int,
) -> None: ...

# (rows, length, values, scales)
_History: TypeAlias = tuple[int, int, int, int]

def history_store(history: _History, row: int, x: int, threads: int) -> None: ...
def history_products(history: _History, used: int, x: int, products: int, threads: int) -> None: ...
def history_combination(
    history: _History, used: int, weights: int, out: int, threads: int
) -> None: ...

# what: 0 |x|, 1 x y, 2 (x - y)^2; addresses of float32, y is 0 where it is not wanted
def sum(what: int, x: int, y: int, length: int, threads: int) -> float: ...
def compiled_isas() -> list[str]: ...
def available_isas() -> list[str]: ...
def selected_isa() -> str: ...
def multiplies_integers() -> bool: ...
def convolves_bfloat16() -> bool: ...
def bfloat16_is_quicker() -> bool: ...
def can_wait_briefly() -> bool: ...
def wait_briefly(briefly: bool, threads: int) -> None: ...
def force_isa(name: str) -> None: ...
def build_info() -> dict[str, Any]: ...
def cuda_devices() -> dict[str, Any]: ...

class DeviceError(RuntimeError): ...

# precision: 0 fp32, 1 tf32, 2 bf16; extras: (symmetric, dtype) and (symmetric, masked_sum)
def cuda_symmetric_dtype(features: int, precision: int, device: int) -> int: ...
def cuda_gram_workspace(layers: list[_GramLayer]) -> int: ...
def cuda_gram_gradient_workspace(layers: list[_GradientLayer]) -> int: ...
def cuda_gram(
    layers: list[_GramLayer],
    precision: int,
    workspace: int,
    workspace_bytes: int,
    device: int,
    stream: int,
    extras: list[tuple[int, int]] = ...,
) -> None: ...
def cuda_gram_gradient(
    layers: list[_GradientLayer],
    precision: int,
    workspace: int,
    workspace_bytes: int,
    device: int,
    stream: int,
    extras: list[tuple[int, bool]] = ...,
) -> None: ...
def cuda_history_store(history: _History, slot: int, x: int, device: int, stream: int) -> None: ...
def cuda_history_products(
    history: _History, used: int, x: int, partials: int, device: int, stream: int
) -> None: ...
def cuda_history_combination(
    history: _History,
    used: int,
    weights: int,
    sign: float,
    base: int,
    outer: int,
    out: int,
    squares: int,
    device: int,
    stream: int,
) -> None: ...

# batch, height, width, channels
_Sizes: TypeAlias = tuple[int, int, int, int]
# (dtype, sizes, features, incoming, pooling, relu_mask, target, scale, squares, out)
_LayerGradient: TypeAlias = tuple[int, _Sizes, int, int, int, bool, int, float, int, int]

def cuda_layer_gradient_blocks(layer: _LayerGradient) -> int: ...
def cuda_layer_gradient(layer: _LayerGradient, device: int, stream: int) -> None: ...
def cuda_pool(
    dtype: int, sizes: _Sizes, features: int, pooling: int, out: int, device: int, stream: int
) -> None: ...

# (sums, count, divisor, value, offset, factor)
def cuda_losses(
    terms: list[tuple[int, int, float, int, float, float]], losses: int, device: int, stream: int
) -> None: ...
def cuda_image_features(
    sizes: _Sizes,
    image: int,
    mean: tuple[float, float, float],
    deviation: tuple[float, float, float],
    weights: int,
    bias: int,
    parts: int,
    relu: bool,
    replicate: bool,
    dtype: int,
    out: int,
    device: int,
    stream: int,
) -> None: ...
def cuda_image_gradient(
    sizes: _Sizes,
    dtype: int,
    gradient: int,
    weights: int,
    parts: int,
    out: int,
    device: int,
    stream: int,
) -> None: ...

# solver: the fields of CudaSolver by name
def cuda_solver_take(solver: dict[str, Any], device: int, stream: int) -> None: ...
def cuda_solver_first(solver: dict[str, Any], scaled: bool, device: int, stream: int) -> None: ...
def cuda_solver_second(solver: dict[str, Any], device: int, stream: int) -> None: ...
