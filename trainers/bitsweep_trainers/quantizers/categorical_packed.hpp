// Elements whose points are not at zero, put side by side: behind a ReLU half of a map is nothing
// to compute.

#pragma once

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include <cstdint>

namespace {

constexpr int64_t LANES = 16;        // vectors are full: lists are filled up to a multiple of it
constexpr int64_t PACKED = 1 << 12;  // elements that are packed together; they stay in the caches

// The elements, and where they came from; behind the last come some without any gradient.
template <typename T>
struct Packed {
    T x[PACKED + LANES], y[PACKED + LANES], Gy[PACKED + LANES], dx[PACKED + LANES];
    int32_t where[PACKED + LANES];
    int32_t count;

    void end_at(int32_t num) {
        count = num;
        for (int64_t i = num; i < num + LANES; i++) {
            x[i] = y[i] = Gy[i] = 0;
        }
    }
};

// dx = G y, whose sum is returned: at a point at zero nothing, or a NaN of G. Packs the others.
template <typename T>
inline T pack(const T* x, const T* y, const T* G, T* dx, int64_t count, Packed<T>& to) {
    T G_y = 0;
    int32_t num = 0;
    for (int64_t i = 0; i < count; i++) {
        dx[i] = G[i] * y[i];
        G_y += dx[i];
        to.x[num] = x[i];
        to.y[num] = y[i];
        to.Gy[num] = dx[i];
        to.where[num] = int32_t(i);
        num += !(y[i] == 0);  // no branch: it could not be foreseen
    }
    to.end_at(num);
    return G_y;
}

#if defined(__AVX512F__)
// The same, sixteen at once: compilers make no such instructions of loops.
inline float pack(const float* x, const float* y, const float* G, float* dx, int64_t count,
                  Packed<float>& to) {
    int32_t num = 0;
    __m512 G_y = _mm512_setzero_ps();
    __m512i where = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const auto put = [&](__m512 at, __m512 point, __m512 part) {
        const __mmask16 kept = _mm512_cmp_ps_mask(point, _mm512_setzero_ps(), _CMP_NEQ_UQ);
        G_y = _mm512_add_ps(G_y, part);
        _mm512_storeu_ps(to.x + num, _mm512_maskz_compress_ps(kept, at));
        _mm512_storeu_ps(to.y + num, _mm512_maskz_compress_ps(kept, point));
        _mm512_storeu_ps(to.Gy + num, _mm512_maskz_compress_ps(kept, part));
        _mm512_storeu_si512(to.where + num, _mm512_maskz_compress_epi32(kept, where));
        where = _mm512_add_epi32(where, _mm512_set1_epi32(16));
        num += __builtin_popcount(kept);
    };
    int64_t i = 0;
    for (; i + 16 <= count; i += 16) {
        const __m512 point = _mm512_loadu_ps(y + i);
        const __m512 part = _mm512_mul_ps(_mm512_loadu_ps(G + i), point);
        _mm512_storeu_ps(dx + i, part);
        put(_mm512_loadu_ps(x + i), point, part);
    }
    if (i < count) {
        const __mmask16 rest = (1u << (count - i)) - 1;
        const __m512 point = _mm512_maskz_loadu_ps(rest, y + i);
        const __m512 part = _mm512_mul_ps(_mm512_maskz_loadu_ps(rest, G + i), point);
        _mm512_mask_storeu_ps(dx + i, rest, part);
        put(_mm512_maskz_loadu_ps(rest, x + i), point, part);
    }
    to.end_at(num);
    return _mm512_reduce_add_ps(G_y);
}
#endif

// The results back to where the elements came from.
template <typename T>
inline void unpack(const Packed<T>& from, const T* y, int64_t count, T* dx) {
    for (int32_t j = 0; j < from.count; j++) {
        dx[from.where[j]] = from.dx[j];
    }
}

#if defined(__AVX512F__)
inline void unpack(const Packed<float>& from, const float* y, int64_t count, float* dx) {
    int32_t num = 0;
    int64_t i = 0;
    for (; i + 16 <= count; i += 16) {
        const __mmask16 kept =
            _mm512_cmp_ps_mask(_mm512_loadu_ps(y + i), _mm512_setzero_ps(), _CMP_NEQ_UQ);
        const __m512 found = _mm512_loadu_ps(from.dx + num);
        _mm512_storeu_ps(dx + i, _mm512_mask_expand_ps(_mm512_loadu_ps(dx + i), kept, found));
        num += __builtin_popcount(kept);
    }
    for (; num < from.count; num++) {
        dx[from.where[num]] = from.dx[num];
    }
}
#endif

}  // namespace
