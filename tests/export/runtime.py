"""Compares an ONNX model with logits of stapes: python3 runtime.py MODEL CLIPS LOGITS

CLIPS and LOGITS are files of f32: [n, channels, length] and [n, classes]. Prints a line of JSON. Exits with 3 where a package is missing.
"""

import json
import sys

try:
    import numpy
    import onnx
    import onnxruntime
except ImportError as error:
    print(error)
    sys.exit(3)


def main(path, clips, logits):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (audio,), (output,) = session.get_inputs(), session.get_outputs()
    _, channels, length = audio.shape
    x = numpy.fromfile(clips, "<f4").reshape(-1, channels, length)
    expected = numpy.fromfile(logits, "<f4").reshape(len(x), -1)
    # All clips at once, and one by one: the number of clips is free.
    whole = session.run(None, {audio.name: x})[0]
    single = numpy.concatenate([session.run(None, {audio.name: clip[None]})[0] for clip in x[:5]])
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    print(
        json.dumps(
            {
                "clips": len(x),
                "difference": float(abs(whole - expected).max()),
                "single": float(abs(single - expected[:5]).max()),
                "flips": int((whole.argmax(1) != expected.argmax(1)).sum()),
                "sum": float(whole[0].sum()),
                "input": audio.name,
                "output": output.name,
                "shape": list(output.shape),
                "ir": model.ir_version,
                "opset": model.opset_import[0].version,
                "metadata": metadata,
                "versions": f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}",
            }
        )
    )


main(*sys.argv[1:])
