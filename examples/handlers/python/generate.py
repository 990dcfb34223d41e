"""Generates the Python stubs of proto/outrigger/v1 into `generated/` beside this file.

They are not kept in the repository: they follow from the protos and from the installed grpcio-tools.
"""

import sys
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
PROTO = HERE.parents[2] / "proto"


def generate(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    files = sorted((PROTO / "outrigger" / "v1").glob("*.proto"))
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{PROTO}", f"-I{well_known}", f"--python_out={out}", f"--grpc_python_out={out}"]
    if protoc.main(arguments + [str(file) for file in files]) != 0:
        sys.exit("the stubs could not be generated: see above")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "generated"
    generate(target)
    print(f"wrote {target}")
