// Products of a few rows with a packed matrix, their sums kept in registers.
//
// A packed matrix is cut into groups of N vectors of columns; within a group, its rows lie one after
// another, as many at a time as one processor instruction multiplies:
//
//     float      [k][N][WIDTH]
//     bfloat16   [k / 2][N][WIDTH][2]
//     quantized  [k / 4][N][WIDTH][4], then the scales [N][WIDTH] and the offsets [N][WIDTH]
//
// Quantized rows are hidden states, -1 to 1, as bytes: 127 h + ADDED. A column w is rounded to
// integers of -127 to 127 times its scale; the product is exact in integers, and the offset corrects
// for ADDED.
#pragma once
#include <algorithm>
#include <cmath>
#include <type_traits>
#include "vector.h"

template <class S> constexpr int STEP = 1;  // rows that one product instruction takes
template <> inline constexpr int STEP<bfloat16> = 2;
template <> inline constexpr int STEP<quantized> = 4;

template <class S> constexpr int EXTRA = 0;  // elements after a column: its scale and offset
template <> inline constexpr int EXTRA<quantized> = 8;

// Elements before column `column` of a packed matrix with K rows.
template <class S> INLINE int64_t packed(int64_t column, int64_t K) {
    return column * (K + EXTRA<S>);
}

template <class S> struct Multiplier;

template <> struct Multiplier<float> {
    INLINE vec row(const float *x) { return splat(*x); }
    INLINE vec column(const float *w) { return load(w); }
    INLINE vec add(vec sum, vec x, vec w) { return fused(x, w, sum); }
};

#if HAS_BFLOAT16
template <> struct Multiplier<bfloat16> {
    INLINE ivec row(const bfloat16 *x) { int32_t pair; memcpy(&pair, x, 4); return repeated(pair); }
    INLINE ivec column(const bfloat16 *w) { return load((const int32_t *)w); }
    INLINE vec add(vec sum, ivec x, ivec w) { return add_products(sum, x, w); }
};
#endif

// Vectors of columns in a group, unless a cell needs another number: as many as leave registers for a
// tile of many rows, which share each loaded weight.
constexpr int GROUP = REGISTERS < 32 ? 2 : 4;

// The first vector of columns of a group, where `vectors` are cut into groups of at most `most`: of about
// equal size, because a group of one waits for its sums. Where two groups are computed at once, all but
// the last are whole.
INLINE int64_t group_start(int64_t vectors, int64_t most, int64_t group) {
    const int64_t groups = (vectors + most - 1) / most;
    if (2 * GROUP <= 4) return std::min(vectors, most * group);
    return vectors * group / groups;
}

// sums[m][n] += row m . column n of a group. K: columns of the rows, a multiple of STEP. Row m begins
// at rows + m * stride; its next STEP elements stand ADVANCE further on.
template <class S, int M, int N, int ADVANCE = STEP<S>>
INLINE void multiply(vec (&sums)[M][N], const S *rows, int64_t stride, const S *group, int K) {
    using X = Multiplier<S>;
    for (int k = 0; k < K; k += STEP<S>, rows += ADVANCE) {
        decltype(X::column(group)) w[N];
        UNROLL for (int n = 0; n < N; n++) w[n] = X::column(group + n * WIDTH * STEP<S>);
        group += N * WIDTH * STEP<S>;
        UNROLL for (int m = 0; m < M; m++) {
            auto x = X::row(rows + m * stride);
            UNROLL for (int n = 0; n < N; n++) sums[m][n] = X::add(sums[m][n], x, w[n]);
        }
    }
}

// The same for C groups of N vectors, `apart` elements between them.
template <class S, int M, int N, int C>
INLINE void multiply_groups(vec (&sums)[M][C * N], const S *rows, int64_t stride, const S *groups,
                            int64_t apart, int K) {
    using X = Multiplier<S>;
    for (int k = 0; k < K; k += STEP<S>, rows += STEP<S>, groups += N * WIDTH * STEP<S>) {
        decltype(X::column(groups)) w[C * N];
        UNROLL for (int n = 0; n < C * N; n++)
            w[n] = X::column(groups + n / N * apart + n % N * WIDTH * STEP<S>);
        UNROLL for (int m = 0; m < M; m++) {
            auto x = X::row(rows + m * stride);
            UNROLL for (int n = 0; n < C * N; n++) sums[m][n] = X::add(sums[m][n], x, w[n]);
        }
    }
}

#if HAS_QUANTIZED
template <int M, int N>
INLINE void multiply_quantized(vec (&sums)[M][N], const quantized *rows, int64_t stride,
                               const quantized *group, int K) {
    ivec whole[M][N] = {};
    for (int k = 0; k < K; k += 4) {
        UNROLL for (int m = 0; m < M; m++) {
            int32_t four; memcpy(&four, rows + m * stride + k, 4);
            UNROLL for (int n = 0; n < N; n++)
                whole[m][n] = add_products(whole[m][n], repeated(four),
                                           load((const int32_t *)(group + n * WIDTH * 4)));
        }
        group += N * WIDTH * 4;
    }
    const float *scales = (const float *)group, *offsets = scales + N * WIDTH;
    UNROLL for (int n = 0; n < N; n++) {
        vec scale = load(scales + n * WIDTH), offset = load(offsets + n * WIDTH);
        UNROLL for (int m = 0; m < M; m++)
            sums[m][n] += fused(__builtin_convertvector(whole[m][n], vec), scale, offset);
    }
}
#endif

template <class S, int M, int N>
INLINE void product(vec (&sums)[M][N], const S *rows, int64_t stride, const S *group, int K) {
#if HAS_QUANTIZED
    if constexpr (std::is_same_v<S, quantized>) return multiply_quantized(sums, rows, stride, group, K);
    else
#endif
    multiply<S, M, N>(sums, rows, stride, group, K);
}

// STEP rows of WIDTH columns as one product instruction takes them: [WIDTH][STEP].
INLINE void interleave(const float *row, const float *, float *to) { store(to, load(row)); }
#if HAS_BFLOAT16
INLINE void interleave(const bfloat16 *row, const bfloat16 *next, bfloat16 *to) {
    store((int32_t *)to, widened(row) | widened(next) << 16);
}
INLINE void interleave(const float *row, const float *next, bfloat16 *to) {
    bfloat16 both[2 * WIDTH];
    store(both, load(row));
    store(both + WIDTH, load(next));
    interleave(both, both + WIDTH, to);
}
#endif

// The columns of y = x A as one group, where A[k][columns[n] + u] = a[k * stride + columns[n] + u].
template <class S>
static void pack_rows(S *to, const float *a, int64_t stride, int K, const int64_t *columns, int N) {
    for (int k = 0; k < K; k += STEP<S>)
        for (int n = 0; n < N; n++, to += WIDTH * STEP<S>) {
            const float *row = a + k * stride + columns[n];
            interleave(row, row + stride, to);
        }
}

// Likewise, where A[k][columns[n] + u] = a[(columns[n] + u) * K + k].
template <class S>
static void pack_columns(S *to, const float *a, int K, const int64_t *columns, int N) {
    constexpr int STEPS = WIDTH / STEP<S>;  // product instructions in a tile of WIDTH rows
    S tile[WIDTH][WIDTH];
    for (int n = 0; n < N; n++)
        for (int k = 0; k < K; k += WIDTH) {
            for (int u = 0; u < WIDTH; u++) store(tile[u], load(a + (columns[n] + u) * K + k));
            S *place = to + (int64_t(k) * N + n * STEP<S>) * WIDTH;
            for (int i = 0; i < STEPS; i++)
                for (int u = 0; u < WIDTH; u++)
                    memcpy(place + (int64_t(i) * N * WIDTH + u) * STEP<S>, tile[u] + i * STEP<S>,
                           STEP<S> * sizeof(S));
        }
}

#if HAS_QUANTIZED
template <> // some of the sources never quantize
[[maybe_unused]] void pack_columns(quantized *to, const float *a, int K, const int64_t *columns, int N) {
    float *scales = (float *)(to + int64_t(K) * N * WIDTH), *offsets = scales + N * WIDTH;
    for (int n = 0; n < N; n++)
        for (int u = 0; u < WIDTH; u++) {
            const float *column = a + (columns[n] + u) * K;
            float largest = 1e-30f;
            for (int k = 0; k < K; k++) largest = std::max(largest, std::abs(column[k]));
            const float scale = largest / 127;
            int32_t sum = 0;
            for (int k = 0; k < K; k++) {
                const int32_t w = int32_t(std::lrint(column[k] / scale));
                to[((int64_t(k) / 4 * N + n) * WIDTH + u) * 4 + k % 4].bits = uint8_t(int8_t(w));
                sum += w;
            }
            scales[n * WIDTH + u] = scale / 127;
            offsets[n * WIDTH + u] = -ADDED * float(sum) * scale / 127;
        }
}
#endif
