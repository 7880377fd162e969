/* Words in sound, recognised by a network that stapes trained. Made by cbindgen from capi/src/lib.rs: `cargo test` in capi/ compares it, STAPES_WRITE_HEADER=1 writes it. */

#ifndef STAPES_H
#define STAPES_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/*
 A trained network with its words.
 */
typedef struct StapesRecogniser StapesRecogniser;

/*
 A stream of samples in which words are recognised.
 */
typedef struct StapesStream StapesStream;

/*
 A word that was recognised in a stream.
 */
typedef struct StapesEvent {
  /*
   The word, in UTF-8; valid during the call only.
   */
  const char *word;
  /*
   Its largest averaged probability.
   */
  double probability;
  /*
   Where its sound begins, in seconds from the start of the stream.
   */
  double start;
  /*
   Where its sound ends, in seconds.
   */
  double end;
} StapesEvent;

/*
 Called for each word that is recognised, with the pointer that was given beside it.
 */
typedef void (*StapesOnEvent)(void *user, const struct StapesEvent *event);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Why the last function of this thread failed, a sentence in UTF-8; valid until the next one fails.
 */
const char *stapes_last_error(void);

/*
 Loads a run folder or a weight file that stores its network and words, and listen.toml beside it. Null if that fails.

 # Safety
 `path` is a text that ends with a zero byte.
 */
struct StapesRecogniser *stapes_load(const char *path);

/*
 Frees a recogniser; streams that it began go on. Null is ignored.

 # Safety
 `recogniser` is null, or one of `stapes_load` that was not freed.
 */
void stapes_free(struct StapesRecogniser *recogniser);

/*
 The sample rate of the network in hertz; 0 for null. Sound of any other rate is converted.

 # Safety
 `recogniser` is null, or one of `stapes_load` that was not freed.
 */
uint32_t stapes_rate(const struct StapesRecogniser *recogniser);

/*
 How many words the network has; 0 for null.

 # Safety
 `recogniser` is null, or one of `stapes_load` that was not freed.
 */
size_t stapes_word_count(const struct StapesRecogniser *recogniser);

/*
 Word number `index`, in UTF-8, valid as long as the recogniser; null if there is none.

 # Safety
 `recogniser` is null, or one of `stapes_load` that was not freed.
 */
const char *stapes_word(const struct StapesRecogniser *recogniser, size_t index);

/*
 The number of the most probable word in a clip of one channel with full scale 1; -1 if that fails. If `probabilities` is not null, it receives the probability of every word.

 # Safety
 `recogniser` is one of `stapes_load` that was not freed, `samples` points to `count` values, and `probabilities` is null or has room for `stapes_word_count` values.
 */
int stapes_recognise(struct StapesRecogniser *recogniser,
                     const float *samples,
                     size_t count,
                     uint32_t rate_hz,
                     float *probabilities);

/*
 Begins a stream of one channel of this sample rate. Null if that fails.

 # Safety
 `recogniser` is one of `stapes_load` that was not freed.
 */
struct StapesStream *stapes_stream_begin(const struct StapesRecogniser *recogniser,
                                         uint32_t rate_hz);

/*
 Takes the next samples, with full scale 1, in pieces of any size, and calls `on_event` for each word that was decided. Returns how many words; -1 if that fails.

 # Safety
 `stream` is one of `stapes_stream_begin` that was not ended, `samples` points to `count` values, and `on_event` may be called with `user`.
 */
int stapes_stream_push(struct StapesStream *stream,
                       const float *samples,
                       size_t count,
                       StapesOnEvent on_event,
                       void *user);

/*
 Ends a stream and frees it, and calls `on_event` for each word in its rest. Returns how many words; -1 if that fails. The stream is freed in any case.

 # Safety
 `stream` is one of `stapes_stream_begin` that was not ended, and `on_event` may be called with `user`.
 */
int stapes_stream_end(struct StapesStream *stream,
                      StapesOnEvent on_event,
                      void *user);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* STAPES_H */
