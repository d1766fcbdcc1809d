"""The manifests of weights files: specs that are nearly a model's, in files that are whole otherwise."""
import io
import json

from hypothesis import strategies as st

from tests.fuzz.case import Case
from tests.fuzz.mutations import changed_json, encodable, json_text, texts
from tests.fuzz.tensors import CONFIG, SPEC, manifest, safetensors, weights, whole
from vit.convert import protobuf
from vit.convert.layouts import MINDCV
from vit.model.parameters import shapes

_FORMATS = ("vit-canonical-1", "vit-canonical-3", "vit-checkpoint-2", "pt", "vit-canonical-" + "9" * 400)


@st.composite
def _metadata(draw) -> dict[str, str]:
    """What the header of a safetensors file says beside its tensors."""
    spec = draw(st.one_of(json_text(SPEC), changed_json(SPEC).map(lambda value: json.dumps(value).encode())))
    found = manifest(SPEC) | {"spec": spec.decode("utf-8", "replace")}
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.one_of(st.sampled_from(sorted(found)), texts))
        found[encodable(name)] = encodable(draw(st.one_of(texts, st.sampled_from(_FORMATS))))
    return found


@st.composite
def _cases(draw) -> Case:
    how = draw(st.sampled_from(["safetensors", "safetensors", "mindspore", "npz", "config"]))
    if how == "safetensors":
        files = {"m.safetensors": safetensors(weights(), draw(_metadata()))}
    elif how == "mindspore":
        file = io.BytesIO()
        theirs = {name: part for canonical in shapes(CONFIG)
                  for name, part in MINDCV.split(canonical, weights()[canonical], CONFIG).items()}
        protobuf.write(file, theirs, {protobuf.SPEC: draw(json_text(SPEC)).decode("utf-8", "replace")})
        files = {"m.ckpt": file.getvalue()}
    elif how == "npz":
        (name, data), = whole("npz").items()
        comment = draw(json_text(SPEC))[:65_000]
        at = data.rindex(b"PK\x05\x06") + 20  # the length of the comment, and then the comment, end a zip archive
        files = {name: data[:at] + len(comment).to_bytes(2, "little") + comment}
    else:
        files = dict(whole("hf"))
        files["m/config.json"] = draw(json_text(json.loads(files["m/config.json"])))
    source = next(iter(files)).split("/")[0]
    entry = draw(st.sampled_from(["convert", "convert", "convert", "pretrained"]))
    if entry == "convert":
        return Case("commands.convert", (source, "out"), files, (source,))
    arguments = ("--data", "digits", "--pretrained", source, "--model_dir", "out", "--batch_size", "4")
    return Case("script.prepare", arguments, files)


cases = _cases()
