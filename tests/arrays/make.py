"""Writes the files of arrays beside it, with NumPy: `python3 make.py`. `main.rs` knows their values."""

import pathlib

import numpy as np

HERE = pathlib.Path(__file__).parent
CLIPS, LENGTH, CHANNELS = 20, 4, 3

index = np.arange(CLIPS * LENGTH * CHANNELS, dtype=np.uint64)
bits = ((index * np.uint64(2654435761) + np.uint64(12345)) & np.uint64(0xFFFFFFFF)).astype(np.uint32)
# Neither NaN nor infinite.
finite = np.where((bits >> 23) & 255 == 255, bits ^ np.uint32(1 << 30), bits).view(np.float32)
shape = (CLIPS, LENGTH, CHANNELS)
x = finite.reshape(shape)
y = np.arange(CLIPS) % 2

np.savez(HERE / "f4.npz", x=x, y=y)
np.savez_compressed(HERE / "f4_compressed.npz", x=x, y=y.astype(np.uint8))
np.savez(HERE / "f4_big_endian.npz", x=x.astype(">f4"), y=y.astype(">i2"))
np.savez_compressed(HERE / "f8_fortran.npz", x=np.asfortranarray(x.astype(np.float64)), y=y.astype(bool))
np.savez(HERE / "i2.npz", x=(bits >> 16).astype(np.uint16).view(np.int16).reshape(shape), y=y)
np.savez(HERE / "u1.npz", x=(bits & 255).astype(np.uint8).reshape(shape), y=y)
np.savez(HERE / "f2.npz", x=(bits % 2000).astype(np.float16).reshape(shape) / 8, y=y)
np.savez(HERE / "one_channel.npz", x=x[:, :, 0], y=y)
np.save(HERE / "x.npy", x)

words = np.array(["rest", "links ä"])
np.savez(
    HERE / "labels.npz",
    x=x,
    y=words[y],
    classes=words,
    group=np.array([b"ann", b"ben", b"cyd", b"dan"])[np.arange(CLIPS) // 5],
    split=np.array(["train", "train", "val", "test"])[np.arange(CLIPS) // 5],
    rate=np.float64(250),
)
np.savez(HERE / "numbers.npz", x=x, y=y, classes=words, group=np.arange(CLIPS) // 2, split=y * 2, rate=[500])
np.savez(HERE / "objects.npz", x=x, y=words[y].astype(object))
