"""An ONNX file as a checked protocol buffer: nothing is trusted, external data stays inside the model's folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from subbyte.errors import IngestError

if TYPE_CHECKING:
    import onnx

OLDEST_OPSET = 9
"""Opset 9 and 10 differ from 11 in attributes that became inputs, which the readers of those operators accept."""


def read_model(path: Path) -> onnx.ModelProto:
    """The model in a file, with local functions inlined and external data loaded; see ``check_model``.

    Raises:
        IngestError: the file is missing, unreadable, damaged, of an unknown version, or reaches outside its folder.
    """
    import onnx

    data = _read_bytes(path)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # protobuf's DecodeError, whose home differs between its implementations
        raise _damaged(path, str(error)) from error
    if not _is_text(model):
        raise _damaged(path, "it holds names that are not UTF-8")
    if not model.HasField("graph") or not model.opset_import:
        raise _damaged(path, "it has no graph" if not model.HasField("graph") else "it names no operator set")
    opset(model, path)
    for tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            _load_external(tensor, path)
    return _inlined(model, path) if model.functions else model


def _is_text(message: Any) -> bool:
    """Whether every string is one: protobuf hands out bytes where a file's string is not UTF-8."""
    for field, value in message.ListFields():
        entries = [value] if isinstance(value, str | bytes) or hasattr(value, "ListFields") else value
        if field.message_type is not None:
            if not all(map(_is_text, entries)):
                return False
        elif field.type == field.TYPE_STRING and not all(isinstance(v, str) for v in entries):
            return False
    return True


def _inlined(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """The model with the bodies of its local functions in place of their calls."""
    from onnx.inliner import inline_local_functions

    try:
        return inline_local_functions(model)
    except (ValueError, RuntimeError) as error:
        raise _damaged(path, f"its functions cannot be inlined: {error}") from error


def check_model(model: onnx.ModelProto, path: Path) -> None:
    """Have onnx's own checker look at the model.

    What the file declares about its results is dropped before: shapes are worked out anew, and runtimes do not ask for
    it either.

    Raises:
        IngestError: the checker's complaint.
    """
    import onnx

    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        output.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise _damaged(path, first.strip()) from error


def opset(model: onnx.ModelProto, path: Path) -> int:
    """Version of the standard operator set that the model uses.

    Raises:
        IngestError: there is none, or it is older or newer than what can be read.
    """
    import onnx

    versions: list[int] = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    newest = onnx.defs.onnx_opset_version()
    if len(versions) != 1 or not OLDEST_OPSET <= versions[0] <= newest:
        found = f"opset {versions[0]}" if len(versions) == 1 else f"{len(versions)} versions of the standard opset"
        raise IngestError(
            f"the model uses {found}",
            f"one standard opset of {OLDEST_OPSET} to {newest} (onnx {onnx.__version__})",
            "convert it: onnx.version_converter.convert_version(onnx.load(path), 17)",
            str(path),
        )
    return versions[0]


def _read_bytes(path: Path) -> bytes:
    if not path.exists():
        raise IngestError(f"{path} does not exist", "a model is an ONNX file", "check the path", str(path))
    if not path.is_file():
        raise IngestError(f"{path} is no file", "a model is an ONNX file", "give the path of the .onnx file", str(path))
    try:
        data = path.read_bytes()
    except OSError as error:
        seen = f"{path} cannot be read: {error.strerror or error}"
        raise IngestError(seen, "a model is a readable ONNX file", "check its permissions", str(path)) from error
    if not data:
        raise _damaged(path, "it is empty")
    return data


def _damaged(path: Path, why: str) -> IngestError:
    return IngestError(
        f"{path.name} is no valid ONNX model: {_printable(why)}",
        "a model is a complete ONNX file that onnx.checker accepts",
        "export or download it again; a truncated download is the usual cause",
        str(path),
    )


def _printable(text: str) -> str:
    """One line of at most 300 characters without control characters: it quotes bytes of a damaged file."""
    return "".join(c if c.isprintable() else "?" for c in text)[:300]


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Initializers and tensor attributes of a graph; subgraphs are left out because they are refused anyway."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _load_external(tensor: onnx.TensorProto, path: Path) -> None:
    """Replace a reference into another file by the bytes themselves."""
    import onnx

    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    file = _inside(location, tensor.name, path)
    try:
        offset, size = int(entries.get("offset", "0")), file.stat().st_size
        length = int(entries.get("length", size - offset))
    except ValueError:
        _refuse_external(tensor.name, f"offset {entries.get('offset')!r}, length {entries.get('length')!r}", path)
    if offset < 0 or length < 0 or offset + length > size:
        _refuse_external(tensor.name, f"bytes {offset}..{offset + length} of a file of {size}", path)
    try:
        with file.open("rb") as stream:
            stream.seek(offset)
            tensor.raw_data = stream.read(length)
    except OSError as error:
        _refuse_external(tensor.name, f"{location!r}, which cannot be read ({error.strerror})", path)
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]


def _inside(location: str, name: str, path: Path) -> Path:
    """The file that a location names, if it is a regular file in the model's folder, links resolved."""
    try:
        folder = path.parent.resolve()
        file = (folder / location).resolve()
        good = bool(location) and file.is_relative_to(folder) and file.is_file()
    except (OSError, ValueError, RuntimeError):
        good = False
    if not good:
        _refuse_external(name, f"{_printable(location)!r}", path)
    return file


def _refuse_external(name: str, where: str, path: Path) -> NoReturn:
    raise IngestError(
        f"tensor {name!r} is kept in {where}",
        "external data lies whole in a file inside the model's folder",
        "put the data file beside the model, or save the model with its weights inside",
        str(path),
    )
