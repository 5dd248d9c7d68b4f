"""Files of weights that are headers and holes: their numbers take no place on the disk."""

import json
import os

from archcalc.huggingface.headers import BITS

FILE, INDEX = "model.safetensors", "model.safetensors.index.json"


def weights_file(path, tensors, metadata=None):
    """A safetensors file with these tensors, name -> (type, shape), whose numbers are zeros."""
    header, end = {"__metadata__": metadata} if metadata else {}, 0
    for name, (kind, shape) in tensors.items():
        count = 1
        for size in shape:
            count *= size
        start, end = end, end + count * BITS[kind] // 8
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, 8 + len(text) + end)
    return path


def shards(folder, tensors, count):
    """The same in shards, with an index."""
    names = list(tensors)
    placed = {}
    for i in range(count):
        mine = names[i::count]
        shard = f"model-{i + 1:05}-of-{count:05}.safetensors"
        weights_file(folder / shard, {name: tensors[name] for name in mine})
        placed |= dict.fromkeys(mine, shard)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    return folder / INDEX
