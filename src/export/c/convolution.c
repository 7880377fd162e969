/* The weights of a convolution: groups of four output channels, within a group [taps][channels_in][4]. */
static void convolution@SUFFIX@(const stage *s, sum *sums)
{
    const weight *w = s->weights;
    uint32_t o;
    for (o = 0; o < s->channels; o += 4) {
        sum a0 = s->bias[o], a1 = s->bias[o + 1], a2 = s->bias[o + 2], a3 = s->bias[o + 3];
        uint32_t t;
        for (t = 0; t < s->taps; t++) {
            const @TYPE@ *x = (const @TYPE@ *)s->window + t * s->dilation * s->channels_in;
            uint32_t c;
            for (c = 0; c < s->channels_in; c++, w += 4) {
                a0 += x[c] * w[0];
                a1 += x[c] * w[1];
                a2 += x[c] * w[2];
                a3 += x[c] * w[3];
            }
        }
        sums[o] = a0;
        sums[o + 1] = a1;
        sums[o + 2] = a2;
        sums[o + 3] = a3;
    }
}
