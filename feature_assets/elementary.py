"""log and exp from IEEE additions, multiplications and divisions only.

numpy picks its log and exp kernels by the processor (AVX-512 or not), and they differ in the last bit,
so a stored value could depend on the machine. The basic operations and sqrt are exact by IEEE 754
everywhere. Both functions are within 2 units in the last place of the true value, which
feature_assets_tests/test_elementary.py measures. Nothing else belongs here.
"""

from __future__ import annotations

import numpy as np

# ln 2 in two parts: the first has 33 bits, so that its product with an exponent is exact.
_LN2_HIGH = float.fromhex("0x1.62e42feep-1")
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
_SQRT_HALF = float.fromhex("0x1.6a09e667f3bcdp-1")


def log(x: np.ndarray) -> np.ndarray:
    """Natural logarithm of positive finite values; NaN stays NaN, and anything else becomes NaN.

    x is split into m * 2**e with m in [sqrt(1/2), sqrt(2)); log m = 2 atanh(s), s = (m - 1) / (m + 1), by its
    power series, whose 12th term is below 2**-60 of the first.
    """
    with np.errstate(invalid="ignore"):
        x = np.where((x > 0) & np.isfinite(x), x, np.nan)
    mantissa, exponent = np.frexp(x)
    small = mantissa < _SQRT_HALF
    mantissa = np.where(small, mantissa * 2.0, mantissa)
    exponent = exponent.astype(np.float64) - small
    f = mantissa - 1.0
    s = f / (2.0 + f)
    z = s * s
    series = np.full_like(z, 1.0 / 23.0)
    for odd in range(21, 1, -2):
        series *= z
        series += 1.0 / odd
    # f - s*(f - 2 z series) equals 2s + 2s z series, with f carrying the leading bits exactly.
    log_mantissa = f - s * (f - 2.0 * z * series)
    return exponent * _LN2_HIGH + (log_mantissa + exponent * _LN2_LOW)


def exp(x: np.ndarray) -> np.ndarray:
    """Exponential of values in [-700, 700], by 2**k times the Taylor series on [-ln2/2, ln2/2]."""
    k = np.rint(x / (_LN2_HIGH + _LN2_LOW))
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    series = np.full_like(r, 1.0 / 15.0) * r + 1.0
    for divisor in range(14, 0, -1):
        series *= r
        series /= divisor
        series += 1.0
    return np.ldexp(series, k.astype(np.int32))
