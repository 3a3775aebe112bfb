// One layer over a window, with the memory that it needs.
//
// T time, B lanes, V vocabulary size, E embedding size, H hidden size, G gate blocks, I the input size of
// a layer. Sizes in buffers are padded with zeros to whole vectors; parameters are not: they are torch's.
#pragma once
#include <new>
#include "backward.h"
#include "dropout.h"
#include "forward.h"
#include "pack.h"

// Aligned as streamed stores need it, zeros when allocated. Throws std::bad_alloc.
template <class T> struct Buffer {
    T *memory = nullptr;
    int64_t count = 0;

    Buffer() = default;
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;
    ~Buffer() { operator delete(memory, std::align_val_t(64)); }
    operator T *() const { return memory; }

    // The memory, of at least `elements`: replaced by zeros if it has fewer.
    T *of(int64_t elements) {
        if (elements <= 0 || elements <= count) return memory;
        operator delete(memory, std::align_val_t(64));
        memory = nullptr;
        count = 0;
        const size_t bytes = size_t(elements) * sizeof(T);
        memory = (T *)operator new(bytes, std::align_val_t(64));
        count = elements;
        memset((void *)memory, 0, bytes);
        return memory;
    }
};

// The sizes of a model. end: the symbol that ends a record, or -1. T and B: the windows that it will learn
// from, for which memory is reserved; 0 reserves none.
struct ModelSizes { int64_t kind, layers, V, E, H, bias, end, T, B; };

// The sizes of a window and its uses. looked_up: the input's share of the first layer's gates, in a table
// of all symbols; learns: a backward pass follows; resets: some lane is reset; drops: there is dropout.
struct Shape { int64_t T, B; bool looked_up, learns, resets, drops; };

INLINE int64_t whole(int64_t size) { return (size + WIDTH - 1) / WIDTH * WIDTH; }

// A parameter's values, padded block by block of `block` rows; the parameter itself if it has no padding.
struct Padded {
    const float *values;
    int64_t rows, columns, block, stride;
    Buffer<float> copy;
    const float *matrix;

    Padded(const float *of, int64_t rows_, int64_t columns_, int64_t block_, int64_t stride_)
        : values(of), rows(rows_), columns(columns_), block(block_), stride(stride_), matrix(of) {
        if (rows && (block % WIDTH || columns != stride))
            matrix = copy.of(rows / block * whole(block) * stride);
    }
    void refresh(int64_t threads) const {
        if (matrix != values)
            parallel_pieces(threads, rows, 64, [&](int64_t from, int64_t until) {
                for (int64_t r = from; r < until; r++)
                    memcpy(copy + (r / block * whole(block) + r % block) * stride, values + r * columns,
                           columns * sizeof(float));
            });
    }
};

// sums [H] = the sum of the rows [B, H].
inline void sum_lanes(const float *rows, int64_t B, int64_t H, float *sums) {
    memset(sums, 0, H * sizeof(float));
    for (int64_t at = 0; at < B * H; at += WIDTH)
        store(sums + at % H, load(sums + at % H) + load(rows + at));
}

// One layer: its packed weights, the values of its window, its gradients.
template <class S> struct WindowLayer {
    const CellKind &cell;
    const int64_t kind, own, H, I, columns;  // own: H without padding; columns: G * H
    LayerArgs w{};
    Padded ih, hh;
    const float *bias_ih, *bias_hh;
    uint64_t weight_seed = 0;
    int64_t weight_threshold = 0;  // the least random byte that keeps an element of W_hh, or 0
    Buffer<float> bias, bias_n, state, c, c_before, carried, scratch, d_hh, d_ih, d_bias, d_bias_hh, sums;
    Buffer<float> kept_hh;  // W_hh without the elements that are dropped
    Buffer<S> forward, backward, below, below_backward, h, outputs, gates, reset_h, dropped;
    S *output = nullptr;

    // parameters: W_ih, W_hh and, with biases, those of both. A vector W_hh has no bias, and is padded as
    // one column; a cell without W_hh lacks it, too.
    WindowLayer(const ModelSizes &s, int64_t inputs, float *const *parameters)
        : cell(CELL_KINDS[s.kind]), kind(s.kind), own(s.H), H(whole(s.H)), I(whole(inputs)),
          columns(cell.gates * H), ih(parameters[0], cell.gates * s.H, inputs, s.H, I),
          hh(cell.recurrent ? parameters[1] : nullptr, cell.recurrent ? cell.gates * s.H : 0,
             cell.has_matrix() ? s.H : 1, s.H, cell.has_matrix() ? H : 1),
          bias_ih(s.bias ? parameters[1 + (cell.recurrent != NO_WEIGHTS)] : nullptr),
          bias_hh(s.bias && cell.has_matrix() ? parameters[3] : nullptr) {
        w.kind = kind;
        w.H = H;
        w.below_bias = bias.of(columns);
        w.below_size = I;
        if (cell.has_matrix()) w.forward_weights = forward.of(columns * H);
        else w.own_weights = hh.matrix;
        bias_n.of(H);
        if (bias_ih && kind == GRU_AFTER) w.bias = bias_n;
    }

    // Memory for the gradients.
    void reserve_gradients() {
        d_ih.of(columns * I);
        d_bias.of(columns);
        if (cell.recurrent == VECTOR) d_hh.of(H);
        if (!cell.has_matrix()) return;
        w.backward_weights = backward.of(columns * H);
        d_hh.of(columns * H);
        for (Buffer<float> *one : {&d_bias_hh, &sums}) one->of(columns);
    }
    // Memory for a window.
    void reserve(const Shape &s) {
        const int64_t lanes = s.B * H, values = s.T * lanes;
        const bool lstm = kind == LSTM, before = kind == GRU_BEFORE;
        w.T = s.T;
        w.B = s.B;
        w.h = h.of(values + lanes);
        w.state = state.of(lanes);
        w.c = c.of(lstm ? lanes : 0);
        w.reset_h = reset_h.of(before ? values : 0);
        w.scratch = scratch.of(before || (cell.recurrent == VECTOR && s.learns) ? lanes : 0);
        output = s.resets && cell.has_matrix() ? outputs.of(values) : h + lanes;
        w.outputs = s.resets ? output : nullptr;
        if (s.drops) dropped.of(values);
        if (!s.looked_up) w.below_weights = below.of(columns * I);
        if (!s.looked_up && s.learns) below_backward.of(columns * I);
        w.c_before = s.learns ? c_before.of(lstm ? values : 0) : nullptr;
        w.gates = s.learns ? gates.of(values * cell.saved_blocks) : nullptr;
        w.d_state = w.d_c = s.learns ? carried.of(lanes) : nullptr;
    }

    // Merge the biases: see GatedCell.merged_biases.
    void merge_biases() {
        if (!bias_ih) return;
        for (int64_t g = 0; g < cell.gates; g++) {
            const bool apart = kind == GRU_AFTER && g == 2;
            for (int64_t u = 0; u < own; u++)
                bias[g * H + u] = bias_ih[g * own + u] + (apart || !bias_hh ? 0.0f : bias_hh[g * own + u]);
        }
        if (kind == GRU_AFTER) memcpy(bias_n, bias_hh + 2 * own, own * sizeof(float));
    }

    void pack(const Shape &s, int64_t threads) {
        merge_biases();
        ih.refresh(threads);
        hh.refresh(threads);
        const float *recurrent = hh.matrix;
        if (cell.has_matrix() && weight_threshold) {
            drop_weights(recurrent, kept_hh.of(columns * H), threads);
            recurrent = kept_hh;
        }
        if (cell.has_matrix()) pack_cell<S>(kind, H, H, recurrent, forward, threads);
        if (cell.has_matrix() && s.learns)
            pack_cell_backward<S>(kind, H, H, recurrent, backward, false, threads);
        if (s.looked_up) return;
        pack_cell<S>(kind, H, I, ih.matrix, below, threads);
        if (s.learns) pack_cell_backward<S>(kind, H, I, ih.matrix, below_backward, true, threads);
    }

    // to = W_hh, or its gradient, with the same elements dropped; they may be the same.
    void drop_weights(const float *matrix, float *to, int64_t threads) const {
        for (int64_t g = 0; g < cell.gates; g++)
            drop_rows<float>(matrix + g * H * H, to + g * H * H,
                             {weight_seed, weight_threshold, 1, own, own, H, g * own}, threads);
    }

    // Load the states: zeros in the lanes that begin anew, and in the padding, where a window of another
    // number of lanes may have left values.
    void begin(const float *const *parts, const uint8_t *anew) {
        for (int64_t part = 0; part < (w.c ? 2 : 1); part++)
            for (int64_t b = 0; b < w.B; b++) {
                float *row = (part ? w.c : w.state) + b * H;
                memset(row, 0, H * sizeof(float));
                if (!(anew && anew[b])) memcpy(row, parts[part] + b * own, own * sizeof(float));
            }
        for (int64_t at = 0; at < w.B * H; at += WIDTH) store(h + at, load(state + at));
    }
    void end(float *const *parts) const {
        for (int64_t b = 0; b < w.B; b++) {
            memcpy(parts[0] + b * own, state + b * H, own * sizeof(float));
            if (w.c) memcpy(parts[1] + b * own, c + b * H, own * sizeof(float));
        }
    }

    void run_window_forward(const uint8_t *resets, int64_t threads) {
        w.threads = threads;
        w.resets = resets;
        parallel_pieces(threads, w.B, lanes_at_once(kind, w.B, H, sizeof(S), threads),
                        [&](int64_t b0, int64_t b1) { run_forward<S>(w, int(b0), int(b1)); });
    }

    // The gradients of W_hh and of its bias; of W_ih, its bias and the layer's input, from those of the
    // output. d_rows: [T*B, columns], and H more for GRU_AFTER; without a matrix W_hh its place is `gates`.
    // Returns that of W_ih x, `stride` apart.
    const S *run_window_backward(const S *d_output, S *d_rows, S *workspace, int64_t threads) {
        const bool after = kind == GRU_AFTER;
        const int64_t rows = w.T * w.B, stride = columns + (after ? H : 0);
        w.threads = threads;
        w.d_output = d_output;
        w.d_projected = cell.has_matrix() ? d_rows : gates;
        parallel_pieces(threads, w.B, lanes_at_once(kind, w.B, H, sizeof(S), threads),
                        [&](int64_t b0, int64_t b1) { run_backward<S>(w, int(b0), int(b1)); });
        if (cell.recurrent == VECTOR) sum_lanes(w.scratch, w.B, H, d_hh);
        if (!cell.has_matrix()) return gates;
        if (kind == GRU_BEFORE) {
            const int64_t both = 2 * H;
            weight_gradient<S>(d_rows, stride, both, h, H, H, rows, 0, d_hh, sums, workspace, threads);
            weight_gradient<S>(d_rows + both, stride, H, reset_h, H, H, rows, 0, d_hh + both * H, sums,
                               workspace, threads);
        } else {
            weight_gradient<S>(d_rows, stride, columns, h, H, H, rows, after ? 2 * H : 0, d_hh, sums,
                               workspace, threads);
        }
        if (weight_threshold) drop_weights(d_hh, d_hh, threads);
        return d_rows + (after ? H : 0);
    }
    // The gradients of the biases, when that of W_ih x's has been summed.
    void share_bias_gradient() {
        if (!cell.has_matrix()) return;
        const bool after = kind == GRU_AFTER;  // there the candidate's block comes first
        memcpy(d_bias_hh, after ? sums + H : d_bias, (columns - (after ? H : 0)) * sizeof(float));
        if (after) memcpy(d_bias_hh + 2 * H, sums, H * sizeof(float));
    }
    int64_t d_stride() const { return columns + (kind == GRU_AFTER ? H : 0); }
};
