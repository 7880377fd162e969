/* value * factor * 2^-shift, rounded to the nearest integer; halves are rounded up. */
static int32_t rescaled(int32_t value, multiplier m)
{
    int64_t product = (int64_t)value * m.factor + ((int64_t)1 << (m.shift - 1));
    /* The standard does not define the shift of a negative number. */
    product = product >= 0 ? product >> m.shift : ~(~product >> m.shift);
    if (product > LARGEST_TERM) {
        return LARGEST_TERM;
    }
    return product < -LARGEST_TERM ? -LARGEST_TERM : (int32_t)product;
}

@if queue
/* Adds the first row of the queue to the sums, both in units of 1/256 of a number of the output. */
static void add_queued(const stage *s, const state *t, sum *sums)
{
    const uint32_t at = t->queue_first * s->channels;
    uint32_t c;
    for (c = 0; c < s->channels; c++) {
@if wide_queue
        const int32_t value = s->queue_row_bytes > s->channels ? ((const int16_t *)s->queue)[at + c] : ((const uint8_t *)s->queue)[at + c];
@else
        const int32_t value = ((const uint8_t *)s->queue)[at + c];
@end
        sums[c] = rescaled(sums[c], s->rescale[c]) + rescaled(value - s->queue_zero, s->queue_rescale);
    }
}

@end
/* The output of a stage from its sums. */
static const void *finish(const stage *s)
{
    uint32_t c;
    for (c = 0; c < s->channels; c++) {
        int32_t value = s->sums[c];
@if queue
        if (s->queue != NULL) {
            static const multiplier to_units = {@UNIT@};
            value = rescaled(value, to_units);
        } else
@end
        if (s->rescale != NULL) {
            value = rescaled(value, s->rescale[c]);
        }
        value += s->zero_out;
        value = value < 0 ? 0 : value > s->most ? s->most : value;
@if wide
        if (s->most > 255) {
            next_wide_row[c] = (int16_t)value;
            continue;
        }
@end
        next_row[c] = (uint8_t)value;
    }
@if wide
    return s->most > 255 ? (const void *)next_wide_row : (const void *)next_row;
@else
    return next_row;
@end
}

static void write_logits(float *logits)
{
    uint32_t c;
    for (c = 0; c < @MACRO@_CLASSES; c++) {
        logits[c] = (float)stages[STAGES - 1].sums[c] * logit_scale[c];
    }
}

static input from_float(float x, uint32_t channel)
{
    float value;
@if standardised
    x = (x - input_mean[channel]) / input_deviation[channel];
@else
    (void)channel;
@end
    value = x * @INPUT_FACTOR@;
    if (!(value > -32768.0f)) {
        return -32768;
    }
    if (value > 32767.0f) {
        return 32767;
    }
    return (int16_t)(value + (value < 0.0f ? -0.5f : 0.5f));
}
