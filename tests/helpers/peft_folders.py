"""Changes that make a good PEFT folder a bad one; each is applied to the folder."""

import json

from safetensors.torch import load_file, save_file


def change(**entries):
    """Other entries of the configuration."""

    def apply(folder):
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | entries))

    return apply


def retensor(edit):
    """Other tensors: what `edit` makes of them."""

    def apply(folder):
        tensors = load_file(folder / "adapter_model.safetensors")
        save_file(edit(tensors), folder / "adapter_model.safetensors")

    return apply
