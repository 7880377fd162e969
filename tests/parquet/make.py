"""Makes the Parquet files of the tests: `python3 make.py` with pyarrow and soundfile. `main.rs` knows their values.

words/*.parquet  30 clips of three classes, as the library datasets writes them: `audio` a struct, `label` a number with its name in the metadata.
                 Each file has another compression; the one for validation has pages of version 2, the one for testing checksums.
table.parquet    9 clips: labels as text, a column of speakers with a null, a column of splits, other columns that are not used, and a row without sound.

A clip is 800 samples of a triangle wave at 16 kHz, most of them in FLAC, which gives the same values back.
"""

import io
import json
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

HERE = pathlib.Path(__file__).parent
PERIODS = {"low": 64, "middle": 24, "high": 9}
LENGTH = 800


def wave(period, phase):
    """Whole numbers only, which Rust computes alike."""
    at = (np.arange(LENGTH) + phase) * 2 % (2 * period)
    return ((np.abs(at - period) * 2 - period) * 12000 // period).astype(np.int16)


def sound(samples, kind):
    file = io.BytesIO()
    subtype = "VORBIS" if kind == "OGG" else "PCM_16"
    soundfile.write(file, samples, 16000, format=kind, subtype=subtype)
    return file.getvalue()


def clip(label, phase, name, kind="FLAC"):
    return {"bytes": sound(wave(PERIODS[label], phase), kind), "path": name}


audio = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
names = list(PERIODS)
features = {
    "audio": {"sampling_rate": 16000, "_type": "Audio"},
    "label": {"names": names, "_type": "ClassLabel"},
}
schema = pa.schema([("audio", audio), ("label", pa.int64())])
schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write(file, numbers, **options):
    """The clips with these numbers. The class changes from clip to clip, the speaker after three clips."""
    rows = []
    for number in numbers:
        kind = {7: "WAV", 13: "OGG"}.get(number, "FLAC")
        name = f"s{number // 3}_nohash_{number % 3}.{kind.lower()}"
        rows.append({"audio": clip(names[number % 3], number, name, kind), "label": number % 3})
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), HERE / "words" / file, **options)


(HERE / "words").mkdir(exist_ok=True)
write("train-00000-of-00002.parquet", range(0, 12), compression="snappy", row_group_size=5)
write("train-00001-of-00002.parquet", range(12, 18), compression="zstd", use_dictionary=False)
write("validation-00000-of-00001.parquet", range(18, 24), compression="gzip", data_page_version="2.0")
write("test-00000-of-00001.parquet", range(24, 30), compression="none", write_page_checksum=True)

rows = []
for number in range(9):
    label = names[::-1][number % 3]
    row = {
        "id": number,
        "audio": None if number == 4 else clip(label, number, None),
        "label": label,
        "speaker_id": None if number == 8 else 100 + number // 3,
        "split": ["train", "validation", "test"][number // 3],
        "tags": ["a", "b"][: number % 3],
    }
    rows.append(row)
schema = pa.schema(
    [
        ("id", pa.int32()),
        ("audio", pa.struct([("path", pa.string()), ("bytes", pa.large_binary())])),
        ("label", pa.large_string()),
        ("speaker_id", pa.int32()),
        ("split", pa.dictionary(pa.int32(), pa.string())),
        ("tags", pa.list_(pa.string())),
    ]
)
pq.write_table(pa.Table.from_pylist(rows, schema=schema), HERE / "table.parquet", compression="zstd")
