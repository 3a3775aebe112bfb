// Common parts of forward.h and backward.h: the kinds of cells, a layer's arguments, tiles.
// A call computes the lanes b0 to b1 of a window.
//
// T time, B lanes, H hidden size (a multiple of WIDTH), G gate blocks.
#pragma once
#include <type_traits>
#include <utility>
#include "product.h"

enum Kind { RNN_TANH, RNN_RELU, LSTM, GRU_AFTER, GRU_BEFORE, MINGRU, MINLSTM, INDRNN };

// Gate blocks that one product computes, from block `first` on, `side` vectors of units in a group of
// columns; see pack.h. No gates: no such product.
struct Part { int64_t first, gates, side; };

// The shape of W_hh: none, if the gates do not see h; a vector [H], if each unit sees its own h alone;
// [G*H, H], with a bias of its own.
enum Recurrent { NO_WEIGHTS, VECTOR, MATRIX };

// Properties of a kind. name: the variant in charlm/cells. saved_blocks: blocks of H values that a
// step saves for the backward pass, in addition to h and c, or that the gradients take in their place. parts: the products of a step.
struct CellKind {
    const char *name;
    int64_t gates, saved_blocks;
    Part parts[2];
    Recurrent recurrent;
    constexpr bool has_matrix() const { return recurrent == MATRIX; }
};

constexpr int LSTM_GATES = GROUP;  // in a group of columns: all four, or two (i and f, then g and o)

constexpr CellKind CELL_KINDS[] = {  // in the order of Kind
    {"rnn_tanh", 1, 0, {{0, 1, GROUP}, {}}, MATRIX},
    {"rnn_relu", 1, 0, {{0, 1, GROUP}, {}}, MATRIX},
    {"lstm", 4, 4, {{0, LSTM_GATES, 1}, {LSTM_GATES, 4 - LSTM_GATES, 1}}, MATRIX},
    {"gru_after", 3, 4, {{0, 3, 1}, {}}, MATRIX},
    {"gru_before", 3, 3, {{0, 2, 1}, {2, 1, GROUP}}, MATRIX},
    {"mingru", 2, 2, {{0, 2, GROUP / 2}, {}}, NO_WEIGHTS},
    {"minlstm", 3, 3, {{0, 3, 1}, {}}, NO_WEIGHTS},
    {"indrnn", 1, 1, {{0, 1, GROUP}, {}}, VECTOR},
};

// A window of one layer, filled in by charlm/native/interface.py. Arrays are contiguous; S is float or
// bfloat16.
struct LayerArgs {
    int64_t kind, T, B, H, threads;
    const float *table;       // [V, G*H] and symbols [T, B]: the input's share of each gate ...
    const int64_t *symbols;
    const void *below;        // ... or the input itself, [T, B, I] of S
    const void *below_weights;  // with W_ih, packed like W_hh,
    const float *below_bias;    // and the biases, [G*H]
    int64_t below_size;         // I, a multiple of WIDTH
    const float *bias;        // [H], of the candidate's product in GRU_AFTER
    const float *own_weights;      // [H], W_hh where it is a vector
    const void *forward_weights;   // W_hh, packed for h W^T
    const void *backward_weights;  // W_hh, packed for dz W
    void *h;                  // [T + 1, B, H] of S; the first is the state before the window
    float *state;             // [B, H] in float32: before the window, then after it
    float *c;                 // [B, H] of LSTM: before the window, then after it
    float *c_before;          // [T, H / WIDTH, B, WIDTH]: c before every step, as for `gates`
    void *gates;              // [T, H / WIDTH, B, G', WIDTH] of S, without a matrix W_hh [T, B, G*H]:
                              // saved for backward; may be null
    void *reset_h;                // [T, B, H] of S: r * h of GRU_BEFORE
    float *scratch;           // [B, H] of GRU_BEFORE, and of INDRNN: the gradient of W_hh in every lane
    const uint8_t *resets;    // [T, B]: 1 where a lane is reset to zero before the step; or null
    void *outputs;            // [T, B, H] of S, with resets only: the output of every step; in h it
                              // is replaced by zeros where the next step resets. Without a matrix W_hh
                              // it is not, and this is h from its second step on
    // backward
    const void *d_output;     // [T, B, H] of S
    float *d_state;           // [B, H] of GRU and without a matrix: element-wise gradient carried to h[t-1];
                              // uninitialised on entry
    float *d_c;               // [B, H] of LSTM, likewise
    void *d_projected;        // [T, B, G*H] of S; in GRU_AFTER [T, B, 4 H], see gru_after_backward;
                              // without a matrix W_hh it may be `gates`
};

// f with a constant for n, 1 to MAX.
template <int MAX, class F> INLINE void with_constant(int n, F f) {
    if constexpr (MAX > 0) {
        if (n == MAX) f(std::integral_constant<int, MAX>{});
        else with_constant<MAX - 1>(n, f);
    }
}

// [begin, end) in tiles of M rows, the rest in smaller ones: f(first, constant size).
template <int M, class F> INLINE void in_tiles(int begin, int end, F f) {
    for (; begin + M <= end; begin += M) f(begin, std::integral_constant<int, M>{});
    if constexpr (M > 1) in_tiles<(M > 4 ? 4 : M / 2)>(begin, end, f);
}

// Rows of a tile beside N columns: their sums, N weights and an element of a row fit in the registers.
template <int N>
constexpr int ROWS = REGISTERS < 32 ? (N > 3 ? 2 : N > 2 ? 4 : 6) : (N > 3 ? 4 : 8);

// Vectors of columns, group by group: f(first, constant number). If the registers hold two groups,
// because there are only one or two rows, two of them: one alone would wait for its sums.
template <class F> INLINE void in_groups(int64_t vectors, int64_t rows, F f) {
    int64_t v = 0, group = 0;
    if constexpr (2 * GROUP <= 4)
        for (; rows <= ROWS<2 * GROUP> && v + 2 * GROUP <= vectors; v += 2 * GROUP, group += 2)
            f(v, std::integral_constant<int, 2 * GROUP>{});
    while (v < vectors) {
        const int64_t end = group_start(vectors, GROUP, ++group);
        with_constant<GROUP>(int(end - v), [&](auto n_) { f(v, n_); });
        v = end;
    }
}

// Lanes that a thread computes at once, of B. Two pieces a thread, so that one which is held up does
// not hold up the rest; but one where so few lanes would read the weights from memory too often.
INLINE int64_t lanes_at_once(int64_t kind, int64_t B, int64_t H, int64_t size, int64_t threads) {
    constexpr int64_t TILE = 8, MANY = 1 << 19;  // lanes that share a weight; bytes of weights
    const int64_t share = (B + threads - 1) / threads;
    const bool large = CELL_KINDS[kind].gates * H * H * size > MANY;
    return large || share < 2 * TILE ? share : (share / 2 + TILE - 1) / TILE * TILE;
}

// sums += rows times a group of N vectors of columns, or times two groups; see in_groups.
template <class S, int M, int N>
INLINE void multiply_columns(vec (&sums)[M][N], const S *rows, int64_t stride, const S *group, int K) {
    if constexpr (N == 2 * GROUP)
        multiply_groups<S, M, GROUP, 2>(sums, rows, stride, group, packed<S>(GROUP * WIDTH, K), K);
    else product<S, M, N>(sums, rows, stride, group, K);
}

constexpr int64_t CACHED = 1 << 16;  // values of h of a window, per thread, whose gates stay in the cache

template <class S> struct Layer {
    const LayerArgs &w;
    const int T, B, H, G;
    const bool streams;  // the values saved for the backward pass do not fit in the cache
    S *const h, *const gates, *const reset_h;
    const S *const forward_weights, *const backward_weights;
    S *const dp;

    Layer(const LayerArgs &args, int blocks)
        : w(args), T(args.T), B(args.B), H(args.H), G(blocks),
          streams(args.T * args.B * args.H > CACHED * std::max<int64_t>(1, args.threads)), h((S *)args.h), gates((S *)args.gates),
          reset_h((S *)args.reset_h), forward_weights((const S *)args.forward_weights),
          backward_weights((const S *)args.backward_weights), dp((S *)args.d_projected) {}

    // Store values that are read in the backward pass.
    template <class V> INLINE_MEMBER void save(V *p, vec v) const {
        if (streams) stream_store(p, v);
        else store(p, v);
    }
    INLINE_MEMBER void save(S *p, vec first, vec second) const {
        if (streams) return stream_store(p, first, second);
        store(p, first);
        store(p + WIDTH, second);
    }

    int64_t at(int t, int b) const { return (int64_t(t) * B + b) * H; }

    // True if a lane is reset before step t.
    INLINE_MEMBER bool begins(int t, int b) const { return w.resets && w.resets[int64_t(t) * B + b]; }

    // Called before step t, and once after the last: stores the output of the step before, then sets
    // h to zero where a lane is reset. (c is needed by the backward pass, and stays.)
    void begin_step(int t, int b0, int b1) const {
        if (!w.resets) return;
        for (int b = b0; b < b1; b++) {
            if (t) memcpy((S *)w.outputs + at(t - 1, b), h + at(t, b), H * sizeof(S));
            if (t == T || !begins(t, b)) continue;
            for (int u = 0; u < H; u += WIDTH) {
                store(h + at(t, b) + u, vec{});
                store(w.state + at(0, b) + u, vec{});
            }
        }
    }
    // The output of step t.
    INLINE_MEMBER const S *shown(int t, int b) const {
        return w.resets ? (const S *)w.outputs + at(t, b) : h + at(t + 1, b);
    }

    // The input's share of gate g of the units from u on; only the bias if `add_below` adds the rest.
    INLINE_MEMBER vec input(int t, int b, int g, int u) const {
        if (w.below) return load(w.below_bias + g * H + u);
        return load(w.table + w.symbols[int64_t(t) * B + b] * G * H + g * H + u);
    }
    // sums += W_ih x for N vectors of columns, the first of which is packed as number `column`.
    template <int M, int N> INLINE_MEMBER void add_below(vec (&sums)[M][N], int t, int b,
                                                         int64_t column) const {
        if (!w.below) return;
        const int I = int(w.below_size);
        multiply_columns<S, M, N>(sums, below(t, b), I,
                                  (const S *)w.below_weights + packed<S>(column, I), I);
    }
    // sums += W_hh rows, likewise.
    template <int M, int N> INLINE_MEMBER void add_recurrent(vec (&sums)[M][N], const S *rows,
                                                             int64_t column) const {
        multiply_columns<S, M, N>(sums, rows, H, forward_weights + packed<S>(column, H), H);
    }
    // sums += both for the gates of a vector of units of an LSTM, group by group; for one or two rows
    // both groups at once.
    template <int M> INLINE_MEMBER void add_gates(vec (&sums)[M][4], int t, int b, int u) const {
        constexpr int N = LSTM_GATES, GROUPS = 4 / N;
        const S *rows = h + at(t, b);
        if constexpr (GROUPS > 1 && M <= ROWS<4>) {
            const int I = int(w.below_size);
            if (w.below)
                multiply_groups<S, M, N, GROUPS>(sums, below(t, b), I,
                                                 (const S *)w.below_weights + packed<S>(N * u, I),
                                                 packed<S>(N * H, I), I);
            multiply_groups<S, M, N, GROUPS>(sums, rows, H, forward_weights + packed<S>(N * u, H),
                                             packed<S>(N * H, H), H);
        } else {
            UNROLL for (int i = 0; i < GROUPS; i++) {
                vec some[M][N];
                UNROLL for (int m = 0; m < M; m++)
                    UNROLL for (int n = 0; n < N; n++) some[m][n] = sums[m][i * N + n];
                add_below(some, t, b, i * N * H + N * u);
                add_recurrent(some, rows, i * N * H + N * u);
                UNROLL for (int m = 0; m < M; m++)
                    UNROLL for (int n = 0; n < N; n++) sums[m][i * N + n] = some[m][n];
            }
        }
    }
    INLINE_MEMBER const S *below(int t, int b) const {
        return (const S *)w.below + (int64_t(t) * B + b) * w.below_size;
    }
    INLINE_MEMBER float *c_before(int t, int b, int u) const {
        return w.c_before + ((int64_t(t) * (H / WIDTH) + u / WIDTH) * B + b) * WIDTH;
    }
    // The values saved for the backward pass of a vector of units, its `count` parts contiguous.
    INLINE_MEMBER S *gate(int t, int b, int g, int count, int u) const {
        return gates + ((int64_t(t) * (H / WIDTH) + u / WIDTH) * B + b) * count * WIDTH + g * WIDTH;
    }
    INLINE_MEMBER const S *d_output(int t, int b, int u) const {
        return (const S *)w.d_output + at(t, b) + u;
    }
};
