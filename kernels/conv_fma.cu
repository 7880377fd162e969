// conv_fma.cu: convolutions in f32 by fused multiply-adds, on every chip.
#include "conv_forward.cuh"
#include "conv_weight.cuh"

CONV_FORWARD(conv_forward_1x32_fma, FMA, 1, 192, 32, 3)
CONV_FORWARD(conv_forward_1x64_fma, FMA, 1, 96, 64, 3)
CONV_FORWARD(conv_forward_3x32_fma, FMA, 3, 192, 32, 3)
CONV_FORWARD(conv_forward_3x64_fma, FMA, 3, 96, 64, 3)
CONV_FORWARD(conv_forward_5x32_fma, FMA, 5, 192, 32, 3)
CONV_FORWARD(conv_forward_5x64_fma, FMA, 5, 96, 64, 3)
CONV_FORWARD(conv_forward_small_1_fma, FMA, 1, 48, 32, 3)
CONV_FORWARD(conv_forward_small_3_fma, FMA, 3, 48, 32, 3)
CONV_FORWARD(conv_forward_small_5_fma, FMA, 5, 48, 32, 3)

CONV_BACKWARD_WEIGHT(conv_backward_weight_1_fma, FMA, 1, 3)
CONV_BACKWARD_WEIGHT(conv_backward_weight_3_fma, FMA, 3, 3)
CONV_BACKWARD_WEIGHT(conv_backward_weight_5_fma, FMA, 5, 3)
