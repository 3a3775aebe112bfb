// Weights in float32 packed for the products of a cell and of the head; see product.h.
#pragma once
#include "window_products.h"

// The column groups of one product of a cell, for rows of K: unit vector by unit vector, the gates of
// a vector side by side. w: [G*H, K].
template <class S>
void pack_forward(S *to, const float *w, int64_t H, int64_t K, Part part, int64_t threads) {
    const int64_t vectors = H / WIDTH, groups = (vectors + part.side - 1) / part.side;
    parallel_for(threads, groups, [&](int64_t from, int64_t until) {
        for (int64_t group = from; group < until; group++) {
            int64_t columns[8]; int N = 0;
            const int64_t v = group_start(vectors, part.side, group);
            for (int64_t n = v; n < group_start(vectors, part.side, group + 1); n++)
                for (int64_t g = 0; g < part.gates; g++)
                    columns[N++] = (part.first + g) * H + n * WIDTH;
            S *place = to + packed<S>(part.first * H + v * WIDTH * part.gates, K);
            pack_columns<S>(place, w, int(K), columns, N);
        }
    });
}

// The blocks of w [G*H, columns] from part.first on, for products with rows of part.gates * H, in
// groups of GROUP vectors. The last `leading` blocks come first.
template <class S>
void pack_backward(S *to, const float *w, int64_t H, int64_t columns, Part part, int64_t leading,
                   int64_t threads) {
    const int64_t vectors = columns / WIDTH, K = part.gates * H, before = part.first * H * columns;
    const int64_t first = leading * H, rest = K - first;
    parallel_for(threads, (vectors + GROUP - 1) / GROUP, [&](int64_t from, int64_t until) {
        for (int64_t group = from; group < until; group++) {
            int64_t of[GROUP]; int N = 0;
            const int64_t v = group_start(vectors, GROUP, group);
            for (int64_t n = v; n < group_start(vectors, GROUP, group + 1); n++) of[N++] = n * WIDTH;
            S *place = to + before + v * WIDTH * K;
            pack_rows<S>(place, w + before + rest * columns, columns, int(first), of, N);
            pack_rows<S>(place + first * N * WIDTH, w + before, columns, int(rest), of, N);
        }
    });
}

template <class S>
void pack_cell(int64_t kind, int64_t H, int64_t K, const float *w, S *to, int64_t threads) {
    for (const Part &part : CELL_KINDS[kind].parts)
        if (part.gates) pack_forward<S>(to, w, H, K, part, threads);
}

// W_hh packed for the backward pass of a cell, in GRU_BEFORE part by part; or, if `together`, as one
// matrix in its order.
template <class S>
void pack_cell_backward(int64_t kind, int64_t H, int64_t K, const float *w, S *to, bool together,
                   int64_t threads) {
    const CellKind &cell = CELL_KINDS[kind];
    if (together || kind != GRU_BEFORE)
        return pack_backward<S>(to, w, H, K, {0, cell.gates, 0}, !together && kind == GRU_AFTER, threads);
    for (const Part &part : cell.parts) pack_backward<S>(to, w, H, K, part, 0, threads);
}

// w [columns, K], for products with rows of K, in groups of GROUP vectors of columns.
template <class S> void pack_head(int64_t columns, int64_t K, const float *w, S *to) {
    const int64_t vectors = columns / WIDTH;
    for (int64_t group = 0; group < (vectors + GROUP - 1) / GROUP; group++) {
        int64_t of[GROUP]; int N = 0;
        const int64_t v = group_start(vectors, GROUP, group);
        for (int64_t n = v; n < group_start(vectors, GROUP, group + 1); n++) of[N++] = n * WIDTH;
        pack_columns<S>(to + packed<S>(v * WIDTH, K), w, int(K), of, N);
    }
}
