"""Configs of models, with exact counts: transformers built each on the meta device.

`counted` are published dense decoders, with the parameters of the text model; `older` are configs in the spellings of
older versions, with keys that programs of the time wrote; `refused` are models of which a feature is not supported yet.
"""

import json
from pathlib import Path

PUBLISHED = json.loads(Path(__file__).with_name("configs.json").read_text())
COUNTED = PUBLISHED["counted"]
OLDER = PUBLISHED["older"]
REFUSED = PUBLISHED["refused"]
