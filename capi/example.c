/* Recognises words in 16-bit samples of one channel on standard input:
 *   cargo build --release --manifest-path capi/Cargo.toml
 *   cc -std=c99 capi/example.c -Icapi -Lcapi/target/release -lstapes -o listen
 *   arecord -f S16_LE -r 16000 -t raw | LD_LIBRARY_PATH=capi/target/release ./listen runs/NAME 16000
 */
#include "stapes.h"
#include <stdio.h>
#include <stdlib.h>

static void on_event(void *user, const StapesEvent *event) {
    (void)user;
    printf("%.2f\t%.2f\t%s\t%.3f\n", event->start, event->end, event->word, event->probability);
    fflush(stdout);
}

static int failed(void) {
    fprintf(stderr, "%s\n", stapes_last_error());
    return 1;
}

int main(int argc, char **argv) {
    unsigned char bytes[3200];
    float samples[1600];
    size_t got;
    if (argc < 2) {
        fprintf(stderr, "usage: listen RUN [RATE]\n");
        return 2;
    }
    StapesRecogniser *recogniser = stapes_load(argv[1]);
    if (!recogniser) return failed();
    unsigned rate = argc > 2 ? (unsigned)atoi(argv[2]) : stapes_rate(recogniser);
    StapesStream *stream = stapes_stream_begin(recogniser, rate);
    if (!stream) return failed();
    while ((got = fread(bytes, 2, 1600, stdin)) > 0) {
        for (size_t i = 0; i < got; i++)
            samples[i] = (float)(short)(bytes[2 * i] | bytes[2 * i + 1] << 8) / 32768.0f;
        if (stapes_stream_push(stream, samples, got, on_event, NULL) < 0) return failed();
    }
    if (stapes_stream_end(stream, on_event, NULL) < 0) return failed();
    stapes_free(recogniser);
    return 0;
}
