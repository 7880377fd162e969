/* A microphone without a sound card: an ALSA plugin that delivers a file of 16-bit samples as fast as they would be spoken, and then does what `end` says:
 * it sends silence, is gone, or hangs without an error. With `overrun`, its buffer overruns once, after so many frames. */
#define PIC 1
#include <alsa/asoundlib.h>
#include <alsa/pcm_external.h>
#include <sys/timerfd.h>
#include <time.h>

struct device {
    snd_pcm_ioplug_t io;
    char *bytes;
    long frames, frame_bytes;
    long sent, begun; /* frames that were read ever, and before the last start */
    long overrun;
    enum { SILENCE, GONE, HANGS } end;
    struct timespec start;
};

static int start(snd_pcm_ioplug_t *io) {
    struct device *d = io->private_data;
    d->begun = d->sent;
    return clock_gettime(CLOCK_MONOTONIC, &d->start);
}

static int stop(snd_pcm_ioplug_t *io) { (void)io; return 0; }

/* The frames that have been spoken and fit into the buffer. */
static snd_pcm_sframes_t pointer(snd_pcm_ioplug_t *io) {
    struct device *d = io->private_data;
    struct timespec now;
    if (d->overrun && d->sent >= d->overrun) { d->overrun = 0; return -EPIPE; }
    clock_gettime(CLOCK_MONOTONIC, &now);
    double seconds = (now.tv_sec - d->start.tv_sec) + (now.tv_nsec - d->start.tv_nsec) / 1e9;
    long most = d->sent + (long)io->buffer_size - 1, spoken = d->begun + (long)(seconds * io->rate);
    if (d->end != SILENCE && most > d->frames) most = d->frames;
    if (spoken > most) spoken = most;
    return (spoken - d->begun) % (long)io->buffer_size;
}

static snd_pcm_sframes_t transfer(snd_pcm_ioplug_t *io, const snd_pcm_channel_area_t *areas, snd_pcm_uframes_t offset, snd_pcm_uframes_t size) {
    struct device *d = io->private_data;
    char *to = (char *)areas->addr + (areas->first + areas->step * offset) / 8;
    long left = d->frames - d->sent, copied = left < 0 ? 0 : left < (long)size ? left : (long)size;
    memset(to, 0, size * d->frame_bytes);
    if (copied) memcpy(to, d->bytes + d->sent * d->frame_bytes, copied * d->frame_bytes);
    d->sent += size;
    return size;
}

static int revents(snd_pcm_ioplug_t *io, struct pollfd *poll, unsigned int count, unsigned short *events) {
    struct device *d = io->private_data;
    char ticks[8];
    int gone = d->end == GONE && d->sent + (long)io->period_size > d->frames;
    if (count && read(poll->fd, ticks, sizeof ticks) < 0 && errno != EAGAIN) return -errno;
    *events = gone ? POLLERR | POLLHUP : POLLIN;
    return 0;
}

static int close_device(snd_pcm_ioplug_t *io) {
    struct device *d = io->private_data;
    close(io->poll_fd);
    free(d->bytes);
    free(d);
    return 0;
}

static const snd_pcm_ioplug_callback_t callbacks = {
    .start = start, .stop = stop, .pointer = pointer, .transfer = transfer, .poll_revents = revents, .close = close_device,
};

SND_PCM_PLUGIN_DEFINE_FUNC(clip) {
    struct device *d = calloc(1, sizeof *d);
    const char *file = NULL, *end = "silence";
    long rate = 44100, channels = 2;
    snd_config_iterator_t i, next;
    (void)root;
    snd_config_for_each(i, next, conf) {
        snd_config_t *entry = snd_config_iterator_entry(i);
        const char *id;
        if (snd_config_get_id(entry, &id) < 0) continue;
        if (!strcmp(id, "file")) snd_config_get_string(entry, &file);
        if (!strcmp(id, "end")) snd_config_get_string(entry, &end);
        if (!strcmp(id, "rate")) snd_config_get_integer(entry, &rate);
        if (!strcmp(id, "channels")) snd_config_get_integer(entry, &channels);
        if (!strcmp(id, "overrun")) snd_config_get_integer(entry, &d->overrun);
    }
    FILE *in = file ? fopen(file, "rb") : NULL;
    if (!in || stream != SND_PCM_STREAM_CAPTURE) return -ENODEV;
    fseek(in, 0, SEEK_END);
    d->frame_bytes = 2 * channels;
    d->frames = ftell(in) / d->frame_bytes;
    d->bytes = malloc(d->frames * d->frame_bytes + 1);
    rewind(in);
    if (fread(d->bytes, d->frame_bytes, d->frames, in) != (size_t)d->frames) return -EIO;
    fclose(in);
    d->end = !strcmp(end, "gone") ? GONE : !strcmp(end, "hangs") ? HANGS : SILENCE;

    struct itimerspec tick = { { 0, 5000000 }, { 0, 5000000 } };
    d->io.poll_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    timerfd_settime(d->io.poll_fd, 0, &tick, NULL);
    d->io.version = SND_PCM_IOPLUG_VERSION;
    d->io.name = "a clip";
    d->io.poll_events = POLLIN;
    d->io.callback = &callbacks;
    d->io.private_data = d;
    int error = snd_pcm_ioplug_create(&d->io, name, stream, mode);
    if (error < 0) return error;
    unsigned int access = SND_PCM_ACCESS_RW_INTERLEAVED, format = SND_PCM_FORMAT_S16_LE;
    snd_pcm_ioplug_set_param_list(&d->io, SND_PCM_IOPLUG_HW_ACCESS, 1, &access);
    snd_pcm_ioplug_set_param_list(&d->io, SND_PCM_IOPLUG_HW_FORMAT, 1, &format);
    snd_pcm_ioplug_set_param_minmax(&d->io, SND_PCM_IOPLUG_HW_RATE, rate, rate);
    snd_pcm_ioplug_set_param_minmax(&d->io, SND_PCM_IOPLUG_HW_CHANNELS, channels, channels);
    snd_pcm_ioplug_set_param_minmax(&d->io, SND_PCM_IOPLUG_HW_PERIOD_BYTES, 256, 1 << 20);
    snd_pcm_ioplug_set_param_minmax(&d->io, SND_PCM_IOPLUG_HW_PERIODS, 2, 64);
    *pcmp = d->io.pcm;
    return 0;
}
SND_PCM_PLUGIN_SYMBOL(clip);
