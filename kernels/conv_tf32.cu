// conv_tf32.cu: convolutions with factors in TF32.
// ptx: compute_80
#include "conv_forward.cuh"
#include "conv_matrix.cuh"

CONV_FORWARD(conv_forward_1x32_tf32, TF32, 1, 192, 32, 3)
CONV_FORWARD(conv_forward_1x64_tf32, TF32, 1, 96, 64, 3)
CONV_FORWARD(conv_forward_3x32_tf32, TF32, 3, 192, 32, 3)
CONV_FORWARD(conv_forward_3x64_tf32, TF32, 3, 96, 64, 3)
CONV_FORWARD(conv_forward_5x32_tf32, TF32, 5, 192, 32, 3)
CONV_FORWARD(conv_forward_5x64_tf32, TF32, 5, 96, 64, 3)
CONV_FORWARD(conv_forward_small_1_tf32, TF32, 1, 48, 32, 4)
CONV_FORWARD(conv_forward_small_3_tf32, TF32, 3, 48, 32, 4)
CONV_FORWARD(conv_forward_small_5_tf32, TF32, 5, 48, 32, 4)

CONV_BACKWARD_WEIGHT(conv_backward_weight_1_tf32, TF32, 1, 3)
CONV_BACKWARD_WEIGHT(conv_backward_weight_3_tf32, TF32, 3, 3)
CONV_BACKWARD_WEIGHT(conv_backward_weight_5_tf32, TF32, 5, 3)
