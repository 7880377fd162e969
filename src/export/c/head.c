#include "@NAME@.h"

#include <math.h>
#include <string.h>

/* The kernels; those from KERNEL_MEAN on add up the rows of their input as they come. */
enum {
    KERNEL_CONVOLUTION,
    KERNEL_CONVOLUTION_WIDE,
    KERNEL_DEPTHWISE,
    KERNEL_DEPTHWISE_WIDE,
    KERNEL_MAX_POOL,
    KERNEL_MEAN,
    KERNEL_DENSE
};

@if f32
typedef float input;
typedef float number;
typedef float weight;
typedef float sum;
@end
@if int8
typedef int16_t input;
typedef uint8_t number;
typedef int8_t weight;
typedef int32_t sum;

/* A factor as an integer of 31 bits and a shift to the right. */
typedef struct {
    int32_t factor;
    uint32_t shift;
} multiplier;
@end

/* A stage: a kernel, then the addition of an earlier row, ReLU and the largest numbers of a pool. */
typedef struct {
    const weight *weights;
    const sum *bias;
@if int8
    const multiplier *rescale; /* of each channel: from sums to the numbers of the output */
@end
@if queue
    void *queue;               /* rows that are added later, or NULL */
@end
    void *window;              /* rows of the input that are needed for the next row */
    sum *sums;                 /* the row that is computed, or the maximum of a pool so far */
@if queue
    uint32_t queue_source;     /* 0 for the input of the network, s for the output of stage s - 1 */
    uint32_t queue_rows;
    uint32_t queue_row_bytes;
@if int8
    int32_t queue_zero;        /* which number of these rows stands for 0 */
    multiplier queue_rescale;
@end
@end
    uint32_t kernel;
    uint32_t relu;
    uint32_t taps;             /* of the window */
    uint32_t dilation;         /* rows between neighbouring taps */
    uint32_t stride;           /* rows between neighbouring windows */
    uint32_t span;             /* rows of a window */
    uint32_t before;           /* rows of zeros before the input */
    uint32_t rows_in;
    uint32_t channels_in;
    uint32_t row_bytes;        /* of the input */
    int zero_in;               /* which number of the input stands for 0 */
    int zero_out;
    int most;                  /* the largest number of the output */
    uint32_t rows;             /* before the pool */
    uint32_t channels;
    uint32_t pool;
    uint32_t pool_stride;
    uint32_t rows_out;
} stage;

/* How far a stage has come in a clip. */
typedef struct {
    uint32_t received;         /* rows of the input */
    uint32_t filled;           /* rows in the window */
    uint32_t skip;             /* next rows of the input that no window reads */
    uint32_t lead;             /* rows of zeros that are still to come before the input */
    uint32_t computed;         /* rows before the pool */
    uint32_t emitted;          /* rows after the pool */
@if queue
    uint32_t queue_first;
    uint32_t queued;
@end
} state;
