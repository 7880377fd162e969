/*
 * @TITLE@
 *
@ABOUT@
 */
#ifndef @MACRO@_H
#define @MACRO@_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define @MACRO@_SAMPLE_RATE @RATE@u   /* frames per second */
#define @MACRO@_INPUT_LENGTH @LENGTH@u   /* frames of a clip */
#define @MACRO@_INPUT_CHANNELS @CHANNELS@u   /* samples of a frame */
#define @MACRO@_INPUT_PADDING { @PADDING@ }   /* for each channel the sample, full scale 1, that fills up the end of a shorter clip */
#define @MACRO@_CLASSES @CLASSES@u
#define @MACRO@_CLASS_NAMES { @CLASS_NAMES@ }
#define @MACRO@_RAM_BYTES @RAM@u   /* static memory; the clip is the caller's */
#define @MACRO@_WEIGHT_BYTES @WEIGHTS@u   /* constant data */

/* The names of the classes, in the order of the logits. */
extern const char *const @NAME@_class_names[@MACRO@_CLASSES];

/* Computes the logits of a clip, @MACRO@_INPUT_LENGTH frames with full scale 1, channels next to each other.
 * Returns 0, or -1 if a pointer is NULL. */
int @NAME@_run(const float *audio, float *logits);

/* The same with 16-bit samples, full scale 32768. */
int @NAME@_run_i16(const int16_t *audio, float *logits);

/* Begins a clip that is given piece by piece: no memory for a whole clip is needed. */
void @NAME@_begin(void);

/* Takes the next frames of the clip, any number. Returns 1 when the clip is complete, and writes its logits then;
 * 0 if there are frames to come; -1 if a pointer is NULL. Frames beyond the end of the clip are left out. */
int @NAME@_push(const float *audio, uint32_t frames, float *logits);

/* The same with 16-bit samples, full scale 32768. */
int @NAME@_push_i16(const int16_t *audio, uint32_t frames, float *logits);

/* The probabilities of the classes. */
void @NAME@_softmax(const float *logits, float *probabilities);

#ifdef __cplusplus
}
#endif

#endif
