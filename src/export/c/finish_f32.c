@if queue
/* Adds the first row of the queue to the sums. */
static void add_queued(const stage *s, const state *t, sum *sums)
{
    const float *row = (const float *)s->queue + t->queue_first * s->channels;
    uint32_t c;
    for (c = 0; c < s->channels; c++) {
        sums[c] += row[c];
    }
}

@end
/* The output of a stage from its sums. */
static const void *finish(const stage *s)
{
    number *row = next_row;
    uint32_t c;
    for (c = 0; c < s->channels; c++) {
        float value = s->sums[c];
@if mean
        if (s->kernel == KERNEL_MEAN) {
            value /= (float)s->rows_in;
        }
@end
        row[c] = s->relu && value < 0.0f ? 0.0f : value;
    }
    return row;
}

static void write_logits(float *logits)
{
    memcpy(logits, stages[STAGES - 1].sums, @MACRO@_CLASSES * sizeof(float));
}

static input from_float(float x, uint32_t channel)
{
@if standardised
    return (x - input_mean[channel]) / input_deviation[channel];
@else
    (void)channel;
    return x;
@end
}
