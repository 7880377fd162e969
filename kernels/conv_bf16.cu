// conv_bf16.cu: convolutions with factors in bf16; memory holds f32.
// ptx: compute_80
#include "conv_forward.cuh"
#include "conv_matrix.cuh"

CONV_FORWARD(conv_forward_1x32_bf16, BF16, 1, 32, 3)
CONV_FORWARD(conv_forward_1x64_bf16, BF16, 1, 64, 3)
CONV_FORWARD(conv_forward_3x32_bf16, BF16, 3, 32, 3)
CONV_FORWARD(conv_forward_3x64_bf16, BF16, 3, 64, 3)
CONV_FORWARD(conv_forward_5x32_bf16, BF16, 5, 32, 3)
CONV_FORWARD(conv_forward_5x64_bf16, BF16, 5, 64, 3)

CONV_BACKWARD_WEIGHT(conv_backward_weight_1_bf16, BF16, 1, 3)
CONV_BACKWARD_WEIGHT(conv_backward_weight_3_bf16, BF16, 3, 3)
CONV_BACKWARD_WEIGHT(conv_backward_weight_5_bf16, BF16, 5, 3)
