"""Makes the compressed files of the data tests: needs `flac` and `oggenc` (vorbis-tools). Both hold synthetic sound.

noise.flac   16 kHz, mono, 16 bit, 3,000 values of the generator below: decoding is exact, so the test compares values.
stereo.flac  48 kHz, two channels, 24 bit, 2,400 frames: left a ramp, right silence.
tones.ogg    16 kHz, mono, Vorbis quality 6: tones of 400, 1,600 and 3,000 Hz one after the other, from sample 0, 4,001 and
             9,003 on, 12,000 samples in all: the test cuts it and compares each part with the sine it was made of.
"""
import array, math, struct, subprocess

state, noise = 1, array.array("h")
for _ in range(3000):
    state = (state * 1103515245 + 12345) % 2**31
    noise.append((state >> 16) % 4001 - 2000)
flac = ["flac", "-s", "-f", "--no-padding", "--endian=little", "--sign=signed"]
raw = lambda rate, channels, bits: ["--force-raw-format", f"--sample-rate={rate}", f"--channels={channels}", f"--bps={bits}"]
subprocess.run(flac + raw(16000, 1, 16) + ["-o", "noise.flac", "-"], input=noise.tobytes(), check=True)
ramp = b"".join(struct.pack("<i", 3000 * i)[:3] + b"\0\0\0" for i in range(2400))
subprocess.run(flac + raw(48000, 2, 24) + ["-o", "stereo.flac", "-"], input=ramp, check=True)
tones = array.array("h")
for hz, start, end in ((400, 0, 4001), (1600, 4001, 9003), (3000, 9003, 12000)):
    tones.extend(round(16000 * math.sin(2 * math.pi * hz * (i - start) / 16000)) for i in range(start, end))
subprocess.run(["oggenc", "-Q", "-r", "-R", "16000", "-C", "1", "-q", "6", "-s", "1", "-o", "tones.ogg", "-"],
               input=tones.tobytes(), check=True)
