"""Any bytes as a tuned-weights file: sound weights, or one plain sentence that begins with the file's name.

Half of the inputs are taken as the header of a file whose length field is right, which bytes alone seldom reach.
"""

import atexit
import shutil
import struct
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["tav_core"]):
    from tav_core.weights import TunedWeights, WeightsError

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz"))
FILE = FOLDER / "fuzzed.safetensors"


def one_input(data: bytes) -> None:
    """Reads ``data`` as a file, by both of the reader's ways in."""
    if data[:1] == b"H":
        header, _, rest = data[1:].partition(b"\0")
        data = struct.pack("<Q", len(header)) + header + rest
    FILE.write_bytes(data)
    for read in (TunedWeights.peek, TunedWeights.load):
        try:
            read(FILE)
        except WeightsError as error:
            message = str(error)
            if not message.startswith(FILE.name) or "\n" in message or len(message) > 400:
                raise AssertionError(f"not one plain sentence: {message!r}") from error


def seeds(folder: Path) -> None:
    """A sound file and a header to begin with."""
    header = b'{"__metadata__":{"format":"tune-a-video","format_version":"1","frames":"8","losses":"[]"},'
    header += b'"a.attn1.to_q.diff":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}'
    values = struct.pack("<2f", 1.0, -2.0)
    (folder / "sound").write_bytes(struct.pack("<Q", len(header)) + header + values)
    (folder / "header").write_bytes(b"H" + header + b"\0" + values)


if __name__ == "__main__":
    corpus = FOLDER / "corpus"
    corpus.mkdir()
    seeds(corpus)
    atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
    atheris.Setup([*sys.argv, str(corpus)], one_input)
    atheris.Fuzz()
