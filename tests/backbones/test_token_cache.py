import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from quickstudy.backbones.token_cache import TokenCache, cache_key


def test_the_key_tells_apart_text_and_base():
    keys = {cache_key("a", "x", 1), cache_key("b", "x", 1), cache_key("a", "y", 1), cache_key("a", "x", 2)}
    assert len(keys) == 4
    assert cache_key("a", "x", 1) == cache_key("a", "x", 1)


def test_memory_stays_below_the_limit_and_keeps_what_was_used_last():
    cache = TokenCache(limit=10 * 400)
    for number in range(30):
        cache.put(str(number), torch.full((10, 10), float(number)))
        cache.get("0")
        assert cache.held_bytes <= 4000
    assert cache.get("0") is not None
    assert cache.get("1") is None
    assert cache.get("29")[0, 0] == 29


def test_putting_twice_counts_once():
    cache = TokenCache()
    for _ in range(3):
        cache.put("a", torch.zeros(5, 2))
    assert cache.held_bytes == 40


def test_another_process_finds_the_files(tmp_path):
    drawn = torch.randn(3, 4)
    TokenCache(tmp_path).put("abc", drawn)
    assert torch.equal(TokenCache(tmp_path).get("abc"), drawn)
    assert not list(tmp_path.rglob("*.tmp"))
    assert TokenCache(tmp_path).get("abd") is None


@pytest.fixture
def often_switched():
    """Threads take turns so often that a step left half done shows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_threads_keep_the_count_right(often_switched):
    cache = TokenCache(limit=5 * 40)

    def work(number):
        cache.put(str(number % 20), torch.full((5, 2), float(number % 20)))
        found = cache.get(str(number % 20))
        return found is None or bool((found == number % 20).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(4000)))
    assert cache.held_bytes == 5 * 40
