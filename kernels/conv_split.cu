// conv_split.cu: convolutions in f32 by the matrix units, each factor in two TF32 parts.
// ptx: compute_80
#include "conv_forward.cuh"
#include "conv_matrix.cuh"

CONV_FORWARD(conv_forward_1x32_split, SPLIT, 1, 192, 32, 3)
CONV_FORWARD(conv_forward_1x64_split, SPLIT, 1, 96, 64, 3)
CONV_FORWARD(conv_forward_3x32_split, SPLIT, 3, 192, 32, 3)
CONV_FORWARD(conv_forward_3x64_split, SPLIT, 3, 96, 64, 3)
CONV_FORWARD(conv_forward_5x32_split, SPLIT, 5, 192, 32, 3)
CONV_FORWARD(conv_forward_5x64_split, SPLIT, 5, 96, 64, 3)
CONV_FORWARD(conv_forward_small_1_split, SPLIT, 1, 48, 32, 4)
CONV_FORWARD(conv_forward_small_3_split, SPLIT, 3, 48, 32, 4)
CONV_FORWARD(conv_forward_small_5_split, SPLIT, 5, 48, 32, 4)

CONV_BACKWARD_WEIGHT(conv_backward_weight_1_split, SPLIT, 1, 3)
CONV_BACKWARD_WEIGHT(conv_backward_weight_3_split, SPLIT, 3, 3)
CONV_BACKWARD_WEIGHT(conv_backward_weight_5_split, SPLIT, 5, 3)
