"""Compile the published envelope.proto into the descriptor that motadata-core loads.

    pip install grpcio-tools
    python tools/build_envelope_descriptor.py

A test of motadata-core compares the two, so that a forgotten run shows.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


FOLDER = Path(__file__).parent.parent / "packages/motadata-core/src/motadata/core/codec"


def main() -> int:
    """Run protoc and return its exit status."""
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={FOLDER}"]
    output = f"--descriptor_set_out={FOLDER / 'envelope.binpb'}"
    return subprocess.run([*command, output, "envelope.proto"], check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
