"""Freed memory serves the next tensors, and what the environment says of the allocator is left alone."""

import os
import subprocess
import sys

import pytest

from quickstudy.cli.allocation import keep_freed_memory

PROGRAM = """
import resource, threading
import torch
from quickstudy.cli.allocation import keep_freed_memory

def page_faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def work():
    for _ in range(50):
        [torch.ones(2**20) for _ in range(8)]  # 8 x 4 MiB

torch.set_num_threads(1)
kept = keep_freed_memory() if {keep} else None
for number in range(8):
    if number == 1:
        before = page_faults()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
print(kept, page_faults() - before)
"""


def printed(*, keep):
    """What the program prints: whether memory is kept, and the page faults of all threads but the first."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    for name in ("GLIBC_TUNABLES", "LD_PRELOAD"):
        clean.pop(name, None)
    command = [sys.executable, "-c", PROGRAM.format(keep=keep)]
    run = subprocess.run(command, env=clean, capture_output=True, text=True, check=True)
    kept, faults = run.stdout.split()
    return kept, int(faults)


def test_tensors_of_a_thread_take_the_memory_that_was_freed():
    kept, faults = printed(keep=True)
    if kept != "True":
        pytest.skip("the C library is not glibc")
    assert 2 * faults < printed(keep=False)[1]


@pytest.mark.parametrize(
    ("variable", "value"), [("MALLOC_TOP_PAD_", "131072"), ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=7")]
)
def test_the_environment_goes_before(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    assert keep_freed_memory() is False
