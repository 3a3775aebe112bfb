// Reading and sampling of a few texts at once, one symbol after another.
#pragma once
#include "forward.h"
#include "loss.h"

// A model for sampling. The states are in the windows of its layers; all on one thread.
struct Writer {
    int64_t layers, texts, hidden, vocabulary;
    LayerArgs *layer_args;         // one per layer, T = 1: `table` in the first, `below` in the others
    const void *head;         // [vocabulary, H] packed, its columns padded to whole vectors
    const float *head_bias;   // padded likewise
    float *logits;            // [texts, vocabulary padded]
    double temperature, top_p, min_p, repetition_penalty;
    int64_t top_k, unknown;   // unknown: a symbol that is never written, or -1
    int64_t end;              // of a record: the states are reset to zero before it; or -1
    int64_t *written;         // [texts, past + count]: symbols before, then those of a call; or null
    int64_t past, window, stretch;  // columns filled; symbols looked at; symbols of a repetition
};

// Scratch memory for the choice of a symbol.
struct Scratch {
    std::vector<double> p;
    std::vector<int64_t> order;
    std::vector<float> penalized;
    std::vector<char> repeats;
    explicit Scratch(int64_t V) : p(V), order(V), penalized(V), repeats(V) {}
};

INLINE int64_t padded_columns(int64_t columns) { return (columns + WIDTH - 1) / WIDTH * WIDTH; }

template <class S> void advance(const Writer &writer, const int64_t *symbols) {
    const int texts = int(writer.texts), H = int(writer.hidden);
    for (int64_t i = 0; i < writer.layers; i++) {
        LayerArgs &w = writer.layer_args[i];
        if (i == 0) w.symbols = symbols;
        const int64_t size = int64_t(texts) * H;
        for (int64_t b = 0; b < texts; b++) {
            if (symbols[b] != writer.end) continue;
            for (int64_t u = b * H; u < (b + 1) * H; u += WIDTH) {
                store((S *)w.h + u, vec{});  // in int8 zero is not a zero byte
                store(w.state + u, vec{});
                if (w.c) store(w.c + u, vec{});
            }
        }
        run_forward<S>(w, 0, texts);
        memcpy(w.h, (S *)w.h + size, size * sizeof(S));
    }
    const S *h = (const S *)writer.layer_args[writer.layers - 1].h;
    const int64_t columns = padded_columns(writer.vocabulary);
    head_product(h, texts, H, (const S *)writer.head, writer.head_bias, columns, writer.logits);
}

// The logits with the repetition penalty on the symbols that would repeat the last `stretch - 1` of
// `count` written ones; the same as `repeating` in charlm/sampling/repetition.py.
static const float *penalized(const Writer &writer, const float *logits, const int64_t *written,
                              int64_t count, Scratch &scratch) {
    const int64_t V = writer.vocabulary, known = writer.stretch - 1;
    if (count <= known) return logits;
    const int64_t *last = written + count - known;
    std::fill(scratch.repeats.begin(), scratch.repeats.end(), 0);
    for (int64_t i = std::max(int64_t(0), count - writer.window); i + known < count; i++)
        if (std::equal(last, last + known, written + i)) scratch.repeats[written[i + known]] = 1;
    const float penalty = float(writer.repetition_penalty);
    for (int64_t v = 0; v < V; v++) {
        const float logit = logits[v];
        scratch.penalized[v] =
            !scratch.repeats[v] ? logit : logit > 0 ? logit / penalty : logit * penalty;
    }
    return scratch.penalized.data();
}

// The symbol where the cumulative distribution of `logits` passes `uniform`; `choose` in
// charlm/sampling/filters.py is the same in torch.
static int64_t chosen(const Writer &writer, const float *logits, double uniform, Scratch &scratch) {
    const int64_t V = writer.vocabulary;
    std::vector<double> &p = scratch.p;
    std::vector<int64_t> &order = scratch.order;
    double sum = 0;
    int64_t best = -1;
    for (int64_t v = 0; v < V; v++)
        if (v != writer.unknown && (best < 0 || logits[v] > logits[best])) best = v;
    int64_t symbol = best;
    if (writer.temperature > 0) {
        sum = 0;
        for (int64_t v = 0; v < V; v++) {
            p[v] = v == writer.unknown ? 0 : std::exp((logits[v] - logits[best]) / writer.temperature);
            sum += p[v];
        }
        if (writer.top_k && writer.top_k < V) {
            for (int64_t v = 0; v < V; v++) order[v] = v;
            std::nth_element(order.begin(), order.begin() + writer.top_k - 1, order.begin() + V,
                             [&](int64_t a, int64_t b) { return p[a] > p[b]; });
            const double smallest = p[order[writer.top_k - 1]];
            sum = 0;
            for (int64_t v = 0; v < V; v++) sum += p[v] = p[v] < smallest ? 0 : p[v];
        }
        if (writer.top_p < 1) {
            for (int64_t v = 0; v < V; v++) order[v] = v;
            std::stable_sort(order.begin(), order.begin() + V,
                             [&](int64_t a, int64_t b) { return p[a] > p[b]; });
            double before = 0, kept = 0;
            for (int64_t i = 0; i < V; i++) {
                const double share = p[order[i]];
                if (i && before >= writer.top_p * sum) p[order[i]] = 0;
                else kept += share;
                before += share;
            }
            sum = kept;
        }
        if (writer.min_p > 0) {  // the most probable symbol has p = 1
            sum = 0;
            for (int64_t v = 0; v < V; v++) sum += p[v] = p[v] < writer.min_p ? 0 : p[v];
        }
        double passed = 0;
        for (int64_t v = 0; v < V; v++)
            if (p[v] > 0) {
                symbol = v;
                passed += p[v];
                if (passed > uniform * sum) break;
            }
    }
    return symbol;
}

// The surprisal of a symbol, in nats, before any filter.
static double surprisal(const Writer &writer, const float *logits, int64_t symbol) {
    const int64_t V = writer.vocabulary;
    double top = -INFINITY, sum = 0;
    for (int64_t v = 0; v < V; v++) top = std::max(top, double(logits[v]));
    for (int64_t v = 0; v < V; v++) sum += std::exp(double(logits[v]) - top);
    return top + std::log(sum) - double(logits[symbol]);
}

// symbols: [count, texts]. The logits after the last one remain for `write`.
template <class S> void read_symbols(const Writer &writer, const int64_t *symbols, int64_t count) {
    for (int64_t i = 0; i < count; i++) advance<S>(writer, symbols + i * writer.texts);
}

// Chooses a symbol from the current logits, then reads it, `count` times.
// uniforms, symbols, nats: [count, texts].
template <class S>
void write_symbols(const Writer &writer, const double *uniforms, int64_t count, int64_t *symbols,
                   double *nats) {
    Scratch scratch(writer.vocabulary);
    const int64_t columns = padded_columns(writer.vocabulary);
    for (int64_t i = 0; i < count; i++) {
        for (int64_t b = 0; b < writer.texts; b++) {
            const int64_t at = i * writer.texts + b;
            const float *logits = writer.logits + b * columns, *scores = logits;
            int64_t *written = writer.written ? writer.written + b * (writer.past + count) : nullptr;
            if (written) scores = penalized(writer, logits, written, writer.past + i, scratch);
            symbols[at] = chosen(writer, scores, uniforms[at], scratch);
            nats[at] = surprisal(writer, logits, symbols[at]);
            if (written) written[writer.past + i] = symbols[at];
        }
        advance<S>(writer, symbols + i * writer.texts);
    }
}
