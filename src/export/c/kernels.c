@if max_pool
static void max_pool(const stage *s, sum *sums)
{
    const number *x = (const number *)s->window;
    uint32_t t, c;
    for (c = 0; c < s->channels; c++) {
        sums[c] = x[c];
    }
    for (t = 1; t < s->taps; t++) {
        x += s->channels_in;
        for (c = 0; c < s->channels; c++) {
            if (x[c] > sums[c]) {
                sums[c] = x[c];
            }
        }
    }
}

@end
/* Computes a row from the window. */
static void compute(const stage *s, sum *sums)
{
    switch (s->kernel) {
@if convolution_wide
    case KERNEL_CONVOLUTION_WIDE:
        convolution_wide(s, sums);
        break;
@end
@if depthwise_wide
    case KERNEL_DEPTHWISE_WIDE:
        depthwise_wide(s, sums);
        break;
@end
@if depthwise
    case KERNEL_DEPTHWISE:
        depthwise(s, sums);
        break;
@end
@if max_pool
    case KERNEL_MAX_POOL:
        max_pool(s, sums);
        break;
@end
@if convolution
    case KERNEL_CONVOLUTION:
        convolution(s, sums);
        break;
@end
    default:
        break;
    }
}

/* Adds to the sums of a mean or a dense layer what row `r` of the input contributes; the weights of the latter: [rows][channels_in][channels]. */
static void accumulate(const stage *s, uint32_t r, const void *row)
{
    const number *x = (const number *)row;
    uint32_t i, o;
@if mean
    if (s->kernel == KERNEL_MEAN) {
        for (i = 0; i < s->channels_in; i++) {
            s->sums[i] += x[i];
        }
        return;
    }
@end
    for (i = 0; i < s->channels_in; i++) {
        const weight *w = s->weights + (r * s->channels_in + i) * s->channels;
        for (o = 0; o < s->channels; o++) {
            s->sums[o] += x[i] * w[o];
        }
    }
}
