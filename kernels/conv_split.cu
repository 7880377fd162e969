// conv_split.cu: convolutions in f32 by the matrix units, each factor in two TF32 parts.
// ptx: compute_80
#include "conv_forward.cuh"
#include "conv_matrix.cuh"

CONV_FORWARD(conv_forward_1x32_split, SPLIT, 1, 32, 3)
CONV_FORWARD(conv_forward_1x64_split, SPLIT, 1, 64, 3)
CONV_FORWARD(conv_forward_3x32_split, SPLIT, 3, 32, 3)
CONV_FORWARD(conv_forward_3x64_split, SPLIT, 3, 64, 3)
CONV_FORWARD(conv_forward_5x32_split, SPLIT, 5, 32, 3)
CONV_FORWARD(conv_forward_5x64_split, SPLIT, 5, 64, 3)

CONV_BACKWARD_WEIGHT(conv_backward_weight_1_split, SPLIT, 1, 3)
CONV_BACKWARD_WEIGHT(conv_backward_weight_3_split, SPLIT, 3, 3)
CONV_BACKWARD_WEIGHT(conv_backward_weight_5_split, SPLIT, 5, 3)
