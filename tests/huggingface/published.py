"""Configs of published models with their exact counts: transformers built each on the meta device, and they are copied here.

`counted` are dense decoders, with the parameters of the text model; `refused` are models of which a feature is not
supported yet.
"""

import json
from pathlib import Path

PUBLISHED = json.loads(Path(__file__).with_name("configs.json").read_text())
COUNTED = PUBLISHED["counted"]
REFUSED = PUBLISHED["refused"]
