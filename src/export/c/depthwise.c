/* The weights of a depthwise convolution: [taps][channels]. */
static void depthwise@SUFFIX@(const stage *s, sum *sums)
{
    uint32_t t, c;
    for (c = 0; c < s->channels; c++) {
        sums[c] = s->bias[c];
    }
    for (t = 0; t < s->taps; t++) {
        const @TYPE@ *x = (const @TYPE@ *)s->window + t * s->dilation * s->channels_in;
        const weight *w = s->weights + t * s->channels;
        for (c = 0; c < s->channels; c++) {
            sums[c] += x[c] * w[c];
        }
    }
}
