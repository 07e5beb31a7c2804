"""Machines as a planner sees them: a YAML file each, of which some ship with Herd (``machines/``).

    machine = load_machine("h100-80gb")     # or the path of a file of your own

A file holds what the data sheet says (peak rates, memory, links) and the shares of it that were reached.  The shares
are fitted to runs on that machine, all rows together; ``note`` says which.
"""

from importlib import resources
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, ValidationError

from herd.foundation.config import Config
from herd.foundation.errors import HerdError

GIB = 2.0**30


class Machine(Config):
    """One kind of accelerator and how many of them are wired together; rates in units of 1e12 FLOP/s and 1e9 bytes/s.

    ``gemm``, ``float8_gemm``, ``attention`` and ``bandwidth`` are shares of the peak that large kernels reach.
    """

    name: str
    memory_gib: float = Field(gt=0)
    peak_tflops: float = Field(gt=0, description="dense bf16, or fp32 where fp32 is trained in")
    float8_tflops: float | None = Field(default=None, gt=0)
    memory_gb_s: float = Field(gt=0)
    node: int = Field(default=8, ge=1, description="accelerators that share the fast links")
    link_gb_s: float = Field(gt=0, description="to one accelerator inside a node, one direction")
    network_gb_s: float = Field(gt=0, description="to one accelerator between nodes, one direction")
    gemm: float = Field(gt=0, le=1)
    float8_gemm: float = Field(default=0.4, gt=0, le=1)
    attention: float = Field(gt=0, le=1)
    bandwidth: float = Field(default=0.8, gt=0, le=1)
    link_share: float = Field(default=0.8, gt=0, le=1, description="of both kinds of links, reached by collectives")
    train_in: Literal["bf16", "fp32"] = "bf16"
    stack: str = Field(default="herd", description="the software whose runs the shares were fitted to")
    power_watts: float | None = Field(default=None, gt=0)
    dollars_per_hour: float | None = Field(
        default=None, gt=0, description="of one accelerator; a price list's, not ours"
    )
    interruptions_per_day: float = Field(
        default=419 / 54 / 16384, ge=0, description="of one accelerator; the paper's 419 in 54 days on 16,384"
    )
    note: str = ""


def machine_names() -> list[str]:
    """The machines that ship with Herd."""
    folder = resources.files("herd.plan") / "machines"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_machine(name: str) -> Machine:
    """A machine that ships with Herd, or that of a YAML file; ``HerdError`` names the file and the key."""
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise HerdError(f"{path}: not readable ({error})") from None
    elif name in machine_names():
        text = (resources.files("herd.plan") / "machines" / f"{name}.yaml").read_text(encoding="utf-8")
    else:
        raise HerdError(f"there is no machine {name!r}; there are {', '.join(machine_names())}, or give a YAML file")
    try:
        return Machine.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise HerdError(f"{name}: not a YAML file ({error})") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise HerdError(f"{name}: {'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}") from None
