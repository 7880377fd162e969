/* Appends a row to the window of a stage; without a row, one of zeros. */
static void append(const stage *s, state *t, const void *row)
{
    unsigned char *end = (unsigned char *)s->window + t->filled * s->row_bytes;
    if (t->skip > 0) {
        t->skip--;
        return;
    }
    if (row != NULL) {
        memcpy(end, row, s->row_bytes);
    } else {
        memset(end, s->zero_in, s->row_bytes);
    }
    t->filled++;
}

@if queue
/* Puts a row of the input of stage `source` into the queues of the stages that add it later. */
static void enqueue(uint32_t source, const void *row)
{
    uint32_t i;
    for (i = 0; i < STAGES; i++) {
        const stage *s = &stages[i];
        if (s->queue != NULL && s->queue_source == source) {
            const uint32_t at = (states[i].queue_first + states[i].queued) % s->queue_rows;
            memcpy((unsigned char *)s->queue + at * s->queue_row_bytes, row, s->queue_row_bytes);
            states[i].queued++;
        }
    }
}

@end
/* Takes a row of the input of stage `to`. */
static void deliver(uint32_t to, const void *row)
{
    const stage *s = &stages[to];
    state *t = &states[to];
@if queue
    enqueue(to, row);
@end
    if (s->kernel >= KERNEL_MEAN) {
        accumulate(s, t->received, row);
    } else if (t->emitted < s->rows_out) {
        append(s, t, row);
    }
    t->received++;
}

/* Computes the row before the pool that the window of a stage is for, and moves the window. */
static void compute_row(const stage *s, state *t)
{
    const uint32_t place = t->computed % s->pool_stride;
    if (place < s->pool) {
        sum *sums = place == 0 ? s->sums : row_sums;
        compute(s, sums);
@if queue
        if (s->queue != NULL) {
            add_queued(s, t, sums);
        }
@end
        if (place > 0) {
            uint32_t c;
            for (c = 0; c < s->channels; c++) {
                if (sums[c] > s->sums[c]) {
                    s->sums[c] = sums[c];
                }
            }
        }
    }
@if queue
    if (s->queue != NULL) {
        t->queue_first = (t->queue_first + 1) % s->queue_rows;
        t->queued--;
    }
@end
    if (s->stride < t->filled) {
        t->filled -= s->stride;
        memmove(s->window, (unsigned char *)s->window + s->stride * s->row_bytes, t->filled * s->row_bytes);
    } else {
        t->skip = s->stride - t->filled;
        t->filled = 0;
    }
    t->computed++;
}

/* Completes the sums of the next row of a stage; returns 0 if rows of its input are missing, or if there are no more. */
static int advance(const stage *s, state *t)
{
    if (s->kernel >= KERNEL_MEAN) {
        if (t->received < s->rows_in || t->emitted > 0) {
            return 0;
        }
        t->emitted = 1;
        return 1;
    }
    while (t->emitted < s->rows_out) {
        uint32_t place;
        while (t->filled < s->span && (t->lead > 0 || t->received == s->rows_in)) {
            append(s, t, NULL);
            t->lead -= t->lead > 0;
        }
        if (t->filled < s->span) {
            return 0;
        }
        compute_row(s, t);
        place = (t->computed - 1) % s->pool_stride;
        if (place + 1 == s->pool || (place < s->pool && t->computed == s->rows)) {
            t->emitted++;
            return 1;
        }
    }
    return 0;
}

/* Computes all rows of stage `first` and of those after it that can be computed. */
static void drain(uint32_t first)
{
    uint32_t i = first;
    for (;;) {
        if (advance(&stages[i], &states[i])) {
            if (i + 1 == STAGES) {
                return;
            }
            i++;
            deliver(i, finish(&stages[i - 1]));
        } else if (i == first) {
            return;
        } else {
            i--;
        }
    }
}

void @NAME@_begin(void)
{
    uint32_t i;
    frames_seen = 0;
    memset(states, 0, sizeof states);
    for (i = 0; i < STAGES; i++) {
        states[i].lead = stages[i].before;
        if (stages[i].kernel >= KERNEL_MEAN) {
            memcpy(stages[i].sums, stages[i].bias, stages[i].channels * sizeof(sum));
        }
    }
    /* Rows of zeros before the input may complete windows. */
    for (i = STAGES; i-- > 0;) {
        drain(i);
    }
    begun = 1;
}

/* Takes one frame of the input. */
static void take(const input *frame)
{
    deliver(0, frame);
    drain(0);
    frames_seen++;
}

/* Returns whether the clip is complete, and writes its logits if it is. */
static int complete(float *logits)
{
    if (frames_seen < @MACRO@_INPUT_LENGTH) {
        return 0;
    }
    write_logits(logits);
    return 1;
}

int @NAME@_push(const float *audio, uint32_t frames, float *logits)
{
    if (logits == NULL || (audio == NULL && frames > 0)) {
        return -1;
    }
    if (!begun) {
        @NAME@_begin();
    }
    for (; frames > 0 && frames_seen < @MACRO@_INPUT_LENGTH; frames--) {
        input frame[@MACRO@_INPUT_CHANNELS];
        uint32_t c;
        for (c = 0; c < @MACRO@_INPUT_CHANNELS; c++) {
            frame[c] = from_float(*audio++, c);
        }
        take(frame);
    }
    return complete(logits);
}

int @NAME@_push_i16(const int16_t *audio, uint32_t frames, float *logits)
{
    if (logits == NULL || (audio == NULL && frames > 0)) {
        return -1;
    }
    if (!begun) {
        @NAME@_begin();
    }
    for (; frames > 0 && frames_seen < @MACRO@_INPUT_LENGTH; frames--) {
        input frame[@MACRO@_INPUT_CHANNELS];
        uint32_t c;
        for (c = 0; c < @MACRO@_INPUT_CHANNELS; c++) {
@if exact_i16
            frame[c] = *audio++;
@else
            frame[c] = from_float((float)*audio++ * (1.0f / 32768.0f), c);
@end
        }
        take(frame);
    }
    return complete(logits);
}

int @NAME@_run(const float *audio, float *logits)
{
    @NAME@_begin();
    return @NAME@_push(audio, @MACRO@_INPUT_LENGTH, logits) == 1 ? 0 : -1;
}

int @NAME@_run_i16(const int16_t *audio, float *logits)
{
    @NAME@_begin();
    return @NAME@_push_i16(audio, @MACRO@_INPUT_LENGTH, logits) == 1 ? 0 : -1;
}

void @NAME@_softmax(const float *logits, float *probabilities)
{
    uint32_t c;
    float largest = logits[0];
    float total = 0.0f;
    for (c = 1; c < @MACRO@_CLASSES; c++) {
        largest = logits[c] > largest ? logits[c] : largest;
    }
    for (c = 0; c < @MACRO@_CLASSES; c++) {
        probabilities[c] = expf(logits[c] - largest);
        total += probabilities[c];
    }
    for (c = 0; c < @MACRO@_CLASSES; c++) {
        probabilities[c] /= total;
    }
}
