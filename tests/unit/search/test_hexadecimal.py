"""The text of a vector in hexadecimal numbers is the same vector, bit for bit."""

import numpy as np
import orjson
import pytest

from evergreen.search.hexadecimal import hexadecimal

LARGEST, SMALLEST_NORMAL, SMALLEST = 3.4028235e38, 1.1754944e-38, 1.4e-45


def bits(text: str) -> list[int]:
    numbers = [float.fromhex(number) for number in text[1:-1].split(",")]
    return np.array(numbers, dtype=np.float32).view(np.uint32).tolist()


@pytest.mark.parametrize(
    "numbers",
    [
        [0.0, -0.0, 1.0, -1.0, 0.1, -0.1],
        [LARGEST, -LARGEST, SMALLEST_NORMAL, -SMALLEST_NORMAL, SMALLEST, -SMALLEST],
        np.random.default_rng(7).standard_normal(1000),
        [2.0**power for power in range(-149, 128)],
    ],
    ids=["plain", "limits", "random", "powers"],
)
def test_every_bit_is_kept(numbers):
    vector = np.array(numbers, dtype=np.float32)
    decimal = orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    assert bits(hexadecimal(decimal)) == vector.view(np.uint32).tolist()
