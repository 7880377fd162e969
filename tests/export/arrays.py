"""Reads what stapes has written as other programs do: python3 arrays.py FILE.npz FILE.safetensors

Prints a line of JSON with the names, shapes and sums of the arrays. Exits with 3 where a package is missing.
"""

import json
import sys

try:
    import numpy
    from safetensors import safe_open
except ImportError as error:
    print(error)
    sys.exit(3)


def main(npz, safetensors):
    described = lambda array: [list(array.shape), float(array.astype("f8").sum())]
    with numpy.load(npz) as arrays:
        of_npz = {name: described(arrays[name]) for name in arrays if arrays[name].dtype == "f4"}
        classes = arrays["classes"].tolist()
        replay = json.loads(str(arrays["stapes.replay"][0]))
        rate = int(arrays["sample_rate"][0])
    with safe_open(safetensors, "numpy") as file:
        of_safetensors = {name: described(file.get_tensor(name)) for name in file.keys()}
        metadata = file.metadata()
    print(json.dumps({"npz": of_npz, "safetensors": of_safetensors, "metadata": metadata, "classes": classes, "replay": replay, "rate": rate}))


main(*sys.argv[1:])
