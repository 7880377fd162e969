// conv_bf16.cu: convolutions with factors in bf16; values in memory are f32.
// ptx: compute_80
#include "conv_forward.cuh"
#include "conv_matrix.cuh"

CONV_FORWARD(conv_forward_1x32_bf16, BF16, 1, 192, 32, 3)
CONV_FORWARD(conv_forward_1x64_bf16, BF16, 1, 96, 64, 3)
CONV_FORWARD(conv_forward_3x32_bf16, BF16, 3, 192, 32, 3)
CONV_FORWARD(conv_forward_3x64_bf16, BF16, 3, 96, 64, 3)
CONV_FORWARD(conv_forward_5x32_bf16, BF16, 5, 192, 32, 3)
CONV_FORWARD(conv_forward_5x64_bf16, BF16, 5, 96, 64, 3)
CONV_FORWARD(conv_forward_small_1_bf16, BF16, 1, 48, 32, 4)
CONV_FORWARD(conv_forward_small_3_bf16, BF16, 3, 48, 32, 4)
CONV_FORWARD(conv_forward_small_5_bf16, BF16, 5, 48, 32, 4)

CONV_BACKWARD_WEIGHT(conv_backward_weight_1_bf16, BF16, 1, 3)
CONV_BACKWARD_WEIGHT(conv_backward_weight_3_bf16, BF16, 3, 3)
CONV_BACKWARD_WEIGHT(conv_backward_weight_5_bf16, BF16, 5, 3)
